"""Which head answers, and how two heads are mixed: chosen once, on val, from cached logits."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kernels.fusion import sweep

Head = Literal["fused", "visual", "text"]

WEIGHTS = torch.linspace(0, 1, 51)
TEMPERATURES = torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0])
DEFAULT_WEIGHT, DEFAULT_TEMPERATURE = 0.5, 1.0


@dataclass(frozen=True)
class Selection:
    """The head that `logits` returns, and what it was chosen by.

    fusion_weight: of the visual head, in [0, 1]. visual_temperature: > 0, divides the visual
    logits before the softmax. val_accuracy: of that head on val, in [0, 1]; None if there was no
    val. head_accuracy: the same for every head. curve: (fusion weight, val accuracy) at that
    temperature.
    """

    head: Head
    fusion_weight: float = DEFAULT_WEIGHT
    visual_temperature: float = DEFAULT_TEMPERATURE
    val_accuracy: float | None = None
    head_accuracy: dict[str, float] | None = None
    curve: tuple[tuple[float, float], ...] = ()


def only_head(head: Head, logits: Tensor | None, target: Tensor | None) -> Selection:
    """For a method with one head: its val accuracy, if there is a val. logits: (N, C)."""
    if logits is None or target is None or not len(target):
        return Selection(head)
    accuracy = (logits.argmax(dim=1) == target).float().mean().item()
    return Selection(head, val_accuracy=accuracy, head_accuracy={head: accuracy})


def choose_head(visual: Tensor, text: Tensor, target: Tensor) -> Selection:
    """Best of all fusion weights and temperatures on val; weights 0 and 1 are the heads alone.

    visual, text: (N, C) logits; target: (N,) int64. Few val images leave many ties, so among the
    best the mixture nearest to the declared default wins (our choice: the one that val gives the
    least reason to leave), never the one that happens to come first. No image: the default.
    """
    if not len(target):
        return Selection("fused")
    accuracy = sweep(visual, text, target, WEIGHTS, TEMPERATURES)
    distance = (WEIGHTS - DEFAULT_WEIGHT).abs() + (TEMPERATURES / DEFAULT_TEMPERATURE).log()[
        :, None
    ].abs()
    distance = distance.masked_fill(accuracy < accuracy.max(), torch.inf)
    k, w = divmod(int(distance.argmin()), len(WEIGHTS))
    weight, best = WEIGHTS[w].item(), accuracy[k, w].item()
    return Selection(
        head="text" if weight == 0 else "visual" if weight == 1 else "fused",
        fusion_weight=weight,
        visual_temperature=TEMPERATURES[k].item(),
        val_accuracy=best,
        head_accuracy={
            "fused": best,
            "visual": accuracy[0, -1].item(),
            "text": accuracy[0, 0].item(),
        },
        curve=tuple(zip(WEIGHTS.tolist(), accuracy[k].tolist(), strict=True)),
    )
