"""Fusing the logits of two heads: accuracy at every weight and temperature from one sweep.

N images, C classes, W weights, K temperatures. v are visual logits, t text logits; both were
computed once and cached, so a sweep costs no forward pass. Curves need not be monotone: every
weight is evaluated, none is skipped after a drop.
"""

from typing import Literal

import torch
from torch import Tensor

Rule = Literal["probabilities", "normalised", "additive"]
"""How two logits become one score.

probabilities: w·softmax(v/τ) + (1−w)·softmax(t). Ours: w = 0 is the text head, w = 1 the visual
    head, and the temperature τ calibrates the visual head, whose scale depends on its training.
normalised: w·v/‖v‖ + (1−w)·t/‖t‖, norms over classes. ImagineFSL's rule, for parity.
additive: w·v + t. ImagineFSL-LoRA's rule, for parity.
"""

SWEEP_ELEMENTS = 1 << 24
"""Scores held at once by the sweep (64 MiB in float32)."""


def fuse(
    visual: Tensor,
    text: Tensor,
    weight: float,
    temperature: float = 1.0,
    rule: Rule = "probabilities",
) -> Tensor:
    """Scores (N, C) of both heads together; visual, text: (N, C) logits of one float dtype.

    weight: w, no unit; temperature: > 0, divides the visual logits. For "probabilities" the result
    is a distribution per row. Raises ValueError if temperature <= 0.
    """
    a, b = _terms(visual, text, torch.tensor([temperature]), rule)
    return weight * a[0] + (1.0 if rule == "additive" else 1 - weight) * b


def sweep_reference(
    visual: Tensor,
    text: Tensor,
    target: Tensor,
    weights: Tensor,
    temperatures: Tensor,
    rule: Rule = "probabilities",
) -> Tensor:
    """Accuracy (K, W) in [0, 1], one call of `fuse` per temperature and weight.

    visual, text: (N, C) logits; target: (N,) int64; weights: (W,); temperatures: (K,) > 0.
    """
    accuracy = torch.empty(len(temperatures), len(weights))
    for k, temperature in enumerate(temperatures.tolist()):
        for j, weight in enumerate(weights.tolist()):
            score = fuse(visual, text, weight, temperature, rule)
            accuracy[k, j] = (score.argmax(dim=1) == target).float().mean()
    return accuracy


def sweep(
    visual: Tensor,
    text: Tensor,
    target: Tensor,
    weights: Tensor,
    temperatures: Tensor,
    rule: Rule = "probabilities",
) -> Tensor:
    """`sweep_reference` in one vectorised pass, in chunks of rows that bound its memory.

    Raises ValueError if there are no images (an accuracy of nothing), or a temperature is <= 0.
    """
    images, classes = visual.shape
    if not images:
        raise ValueError("fusion sweep needs at least 1 image, got 0")
    a, b = _terms(visual, text, temperatures, rule)  # (K, N, C), (N, C)
    w_visual = weights.double()
    w_text = torch.ones_like(w_visual) if rule == "additive" else 1 - w_visual
    w_visual, w_text = (w.to(visual)[:, None, None] for w in (w_visual, w_text))
    hits = torch.zeros(len(temperatures), len(weights), device=visual.device)
    rows = max(1, SWEEP_ELEMENTS // (classes * len(weights) * len(temperatures)))
    for start in range(0, images, rows):
        part = slice(start, start + rows)
        score = w_visual * a[:, None, part] + w_text * b[part]  # (K, W, rows, C)
        hits += (score.argmax(dim=-1) == target[part]).sum(dim=-1)
    return (hits / images).cpu()


def cross_entropy_sweep(
    visual: Tensor, text: Tensor, target: Tensor, weights: Tensor, temperatures: Tensor
) -> Tensor:
    """Mean −log of the target's fused probability, (K, W), for the rule "probabilities".

    Arguments and errors as in `sweep`. The mixture is linear, so the target's two probabilities are
    all that is needed: no (N, C) scores are formed. A probability of 0 counts as 1e-12.
    """
    if not len(target):
        raise ValueError("fusion sweep needs at least 1 image, got 0")
    a, b = _terms(visual, text, temperatures, "probabilities")
    rows = torch.arange(len(target), device=visual.device)
    of_visual, of_text = a[:, rows, target], b[rows, target]  # (K, N), (N,)
    w = weights.to(visual)[:, None]
    fused = w * of_visual[:, None] + (1 - w) * of_text  # (K, W, N)
    return -fused.clamp(min=1e-12).log().mean(dim=-1).cpu()


def _terms(visual: Tensor, text: Tensor, temperatures: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """The two summands before weighting: (K, N, C) and (N, C)."""
    if (temperatures <= 0).any():
        raise ValueError(f"temperature must be > 0, got {temperatures.tolist()}")
    scaled = visual / temperatures.to(visual)[:, None, None]
    if rule == "probabilities":
        return scaled.softmax(dim=-1), text.softmax(dim=-1)
    if rule == "normalised":
        return scaled / scaled.norm(dim=-1, keepdim=True), text / text.norm(dim=-1, keepdim=True)
    return scaled, text
