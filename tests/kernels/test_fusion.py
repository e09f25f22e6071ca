from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.fusion import Rule, cross_entropy_sweep, fuse, sweep, sweep_reference

GOLDEN = Path(__file__).parents[1] / "golden" / "imaginefsl" / "golden.npz"
WEIGHTS = torch.linspace(0, 1, 51)
ONE = torch.ones(1)


def two_heads(images: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(images * 100 + classes)
    target = torch.randint(classes, (images,), generator=rng)
    signal = torch.nn.functional.one_hot(target, classes).float()
    visual = signal + torch.randn(images, classes, generator=rng)
    text = 5 * (signal + torch.randn(images, classes, generator=rng))
    return visual, text, target


@pytest.mark.parametrize("rule", ["probabilities", "normalised", "additive"])
@pytest.mark.parametrize(("images", "classes"), [(37, 7), (1, 5), (4, 1), (300, 2)])
def test_sweep_is_the_reference(rule: Rule, images: int, classes: int) -> None:
    visual, text, target = two_heads(images, classes)
    temperatures = torch.tensor([0.1, 1.0, 10.0])
    fast = sweep(visual, text, target, WEIGHTS, temperatures, rule)
    assert torch.equal(fast, sweep_reference(visual, text, target, WEIGHTS, temperatures, rule))


def test_cross_entropy_sweep_is_that_of_the_fused_probabilities() -> None:
    visual, text, target = two_heads(37, 7)
    temperatures = torch.tensor([0.5, 2.0])
    fast = cross_entropy_sweep(visual, text, target, WEIGHTS, temperatures)
    for k, temperature in enumerate(temperatures.tolist()):
        for j, weight in enumerate(WEIGHTS.tolist()):
            fused = fuse(visual, text, weight, temperature)
            plain = torch.nn.functional.nll_loss(fused.log(), target)
            torch.testing.assert_close(fast[k, j], plain)


def test_chunks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    visual, text, target = two_heads(50, 6)
    whole = sweep(visual, text, target, WEIGHTS, ONE)
    monkeypatch.setattr("kernels.fusion.SWEEP_ELEMENTS", 7 * 6 * 51)
    assert torch.equal(sweep(visual, text, target, WEIGHTS, ONE), whole)


@pytest.mark.parametrize("rule", ["normalised", "additive"])
def test_reference_rules_give_the_golden_accuracy_at_every_weight(rule: Rule) -> None:
    golden = np.load(GOLDEN)
    visual, text, target, weights = (
        torch.from_numpy(golden[f"fusion.{name}"])
        for name in ("visual", "text", "target", "weights")
    )
    accuracy = sweep(visual, text, target, weights, ONE, rule)[0]
    expected = torch.from_numpy(golden[f"fusion.{rule}_acc"])
    expected = expected / 100 if expected.max() > 1 else expected  # the original prints percents
    assert torch.allclose(accuracy, expected, atol=1e-6)


def test_a_peak_behind_a_valley_is_found() -> None:
    # Right at w < 1/3 (image 0) or w > 2/3 (images 1, 2), all wrong between: a search that stops
    # at the first drop would keep w = 0.
    text = torch.tensor([[3.0, 2.0], [1.0, 0.0], [1.0, 0.0]])
    visual = torch.tensor([[0.0, 2.0], [0.0, 0.5], [0.0, 0.5]])
    target = torch.tensor([0, 1, 1])
    curve = sweep(visual, text, target, WEIGHTS, ONE, "normalised")[0]
    assert curve[0] == curve[:17].max() > curve[25]
    assert curve[-1] == curve.max() > curve[0]


def test_both_ends_are_the_heads_alone() -> None:
    visual, text, target = two_heads(200, 5)
    curve = sweep(visual, text, target, torch.tensor([0.0, 1.0]), ONE)[0]
    alone = [(head.argmax(1) == target).float().mean() for head in (text, visual)]
    assert torch.allclose(curve, torch.stack(alone))


def test_fused_probabilities_sum_to_one() -> None:
    visual, text, _ = two_heads(8, 4)
    fused = fuse(visual, text, weight=0.3, temperature=2.0)
    assert torch.allclose(fused.sum(dim=1), torch.ones(8))


def test_no_images_and_bad_temperature_are_named() -> None:
    visual, text, target = two_heads(3, 4)
    with pytest.raises(ValueError, match="at least 1 image"):
        sweep(visual[:0], text[:0], target[:0], WEIGHTS, ONE)
    with pytest.raises(ValueError, match="at least 1 image"):
        cross_entropy_sweep(visual[:0], text[:0], target[:0], WEIGHTS, ONE)
    with pytest.raises(ValueError, match="temperature must be > 0"):
        fuse(visual, text, 0.5, temperature=0.0)
