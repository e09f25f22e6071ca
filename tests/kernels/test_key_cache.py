import pytest
import torch
from torch.nn.functional import cross_entropy

from kernels import key_cache
from kernels.key_cache import cache_logits, cache_sweep

ALPHAS, BETAS = torch.tensor([0.0, 0.5, 2.0]), torch.tensor([1.0, 5.5])


def drawn() -> tuple[torch.Tensor, ...]:
    """Text logits and affinities of 7 images, 11 keys of 4 classes (none of class 2), targets."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 3, 0, 1, 3, 0, 1, 3, 0, 0])
    text, affinity = torch.randn(7, 4, generator=rng), torch.rand(7, 11, generator=rng)
    return text, affinity, labels, torch.arange(7) % 4


def test_logits_are_the_sums_over_each_class() -> None:
    _, affinity, labels, _ = drawn()
    found = cache_logits(affinity, labels, 4, 5.5)
    for c in range(4):
        by_hand = torch.exp(-5.5 * (1 - affinity[:, labels == c])).sum(dim=1)
        torch.testing.assert_close(found[:, c], by_hand)
    assert (found[:, 2] == 0).all()


@pytest.mark.parametrize("elements", [1, 1 << 24])
def test_the_sweep_is_one_loss_per_weight_and_sharpness(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "SWEEP_ELEMENTS", elements)
    text, affinity, labels, target = drawn()
    loss = cache_sweep(text, affinity, labels, target, ALPHAS, BETAS)
    for k, beta in enumerate(BETAS.tolist()):
        for w, alpha in enumerate(ALPHAS.tolist()):
            fused = text + alpha * cache_logits(affinity, labels, 4, beta)
            torch.testing.assert_close(loss[k, w], cross_entropy(fused, target))


def test_a_sweep_over_nothing_is_refused() -> None:
    text, affinity, labels, target = drawn()
    with pytest.raises(ValueError, match="at least 1 image, got 0"):
        cache_sweep(text[:0], affinity[:0], labels, target[:0], ALPHAS, BETAS)
