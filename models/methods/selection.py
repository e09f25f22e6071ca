"""Which head answers, and how two heads are mixed: chosen once, on val, from cached logits."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kernels.fusion import Rule, cross_entropy_sweep, sweep

Head = Literal["fused", "visual", "text"]

WEIGHTS = torch.linspace(0, 1, 51)
TEMPERATURES = torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0])
DEFAULT_WEIGHT, DEFAULT_TEMPERATURE = 0.5, 1.0


@dataclass(frozen=True)
class Selection:
    """The head that `logits` returns, and what it was chosen by.

    fusion_weight: of the visual head, in [0, 1]. visual_temperature: > 0, divides the visual
    logits before the softmax. val_accuracy: of that head on val, in [0, 1]; val_loss: its
    cross-entropy there, in nats, which still differs where few images leave accuracies equal; both
    None if there was no val. head_accuracy: every head's. curve: (fusion weight, val accuracy) at
    that temperature. rule: how the heads are fused; a search's are "probabilities".
    """

    head: Head
    fusion_weight: float = DEFAULT_WEIGHT
    visual_temperature: float = DEFAULT_TEMPERATURE
    val_accuracy: float | None = None
    val_loss: float | None = None
    head_accuracy: dict[str, float] | None = None
    curve: tuple[tuple[float, float], ...] = ()
    rule: Rule = "probabilities"


def only_head(head: Head, logits: Tensor, target: Tensor) -> Selection:
    """What a method with one head reaches on val. logits: (N, C); target: (N,) int64."""
    if not len(target):
        return Selection(head)
    accuracy = (logits.argmax(dim=1) == target).float().mean().item()
    loss = cross_entropy(logits, target).item()
    return Selection(head, val_accuracy=accuracy, val_loss=loss, head_accuracy={head: accuracy})


def choose_head(visual: Tensor, text: Tensor, target: Tensor) -> Selection:
    """The fusion weight and temperature of the lowest cross-entropy on val; no image: the default.

    visual, text: (N, C) logits; target: (N,) int64. Weights 0 and 1 are the heads alone. Chosen by
    cross-entropy, not accuracy (our choice): with few val images many weights tie in accuracy.
    """
    if not len(target):
        return Selection("fused")
    accuracy = sweep(visual, text, target, WEIGHTS, TEMPERATURES)
    loss = cross_entropy_sweep(visual, text, target, WEIGHTS, TEMPERATURES)
    k, w = divmod(int(loss.argmin()), len(WEIGHTS))
    weight = WEIGHTS[w].item()
    return Selection(
        head="text" if weight == 0 else "visual" if weight == 1 else "fused",
        fusion_weight=weight,
        visual_temperature=TEMPERATURES[k].item(),
        val_accuracy=accuracy[k, w].item(),
        val_loss=loss[k, w].item(),
        head_accuracy={
            "fused": accuracy[k, w].item(),
            "visual": accuracy[0, -1].item(),
            "text": accuracy[0, 0].item(),
        },
        curve=tuple(zip(WEIGHTS.tolist(), accuracy[k].tolist(), strict=True)),
    )
