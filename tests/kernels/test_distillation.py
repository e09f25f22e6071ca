"""Losses and centring against numbers worked out by hand."""

import math

import pytest
import torch

from kernels import distillation as d


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_centre_moves_towards_the_mean_of_the_logits() -> None:
    centre = torch.tensor([1.0, 0.0])
    moved = d.moved_centre(centre, torch.tensor([[2.0, 4.0], [4.0, 0.0]]), momentum=0.9)
    assert torch.allclose(moved, torch.tensor([0.9 + 0.3, 0.2]))


def test_the_centre_stays_where_no_patch_was_masked() -> None:
    centre = torch.tensor([1.0, -2.0])
    assert torch.equal(d.moved_centre(centre, torch.zeros(0, 2), momentum=0.9), centre)


def test_teacher_is_centred_and_sharpened() -> None:
    probs = d.teacher_targets(
        torch.tensor([[1.0, 1.0]]), torch.tensor([0.0, 0.1]), temperature=0.1, centering="centre"
    )
    assert torch.allclose(probs[0, 0] / probs[0, 1], torch.tensor(math.e))


def test_without_centring_the_teacher_is_still_a_distribution() -> None:
    probs = d.teacher_targets(logits(5, 7), torch.full((7,), 9.0), 0.07, "none")
    assert torch.allclose(probs, torch.softmax(logits(5, 7) / 0.07, dim=-1))


def test_sinkhorn_uses_prototypes_equally_and_rows_sum_to_one() -> None:
    probs = d.sinkhorn(logits(64, 8), temperature=0.5, iterations=50)
    assert torch.allclose(probs.sum(dim=1), torch.ones(64))
    assert torch.allclose(probs.sum(dim=0), torch.full((8,), 8.0), atol=1e-3)


def test_sinkhorn_is_the_plain_algorithm() -> None:
    given, temperature = logits(6, 5), 0.5
    plain = torch.exp(given.double() / temperature).T  # (K, B), as SwAV writes it
    for _ in range(3):
        plain = plain / plain.sum(dim=1, keepdim=True) / 5
        plain = plain / plain.sum(dim=0, keepdim=True) / 6
    assert torch.allclose(d.sinkhorn(given, temperature, 3).double(), plain.T * 6, atol=1e-6)


def test_sinkhorn_does_not_overflow() -> None:
    probs = d.sinkhorn(logits(6, 5) * 1e4, temperature=0.04)
    assert torch.allclose(probs.sum(dim=1), torch.ones(6))


def test_a_view_is_compared_with_the_other_view_only() -> None:
    probs = torch.softmax(logits(2, 3, 5), dim=-1)
    student = logits(2, 3, 5, seed=1)
    expected = (
        d.cross_entropy_rows(probs[0], student[1], 0.1).mean()
        + d.cross_entropy_rows(probs[1], student[0], 0.1).mean()
    ) / 2
    assert torch.allclose(d.view_loss_reference(probs, student, 0.1), expected)


def test_cross_entropy_by_hand() -> None:
    rows = d.cross_entropy_rows(torch.tensor([[0.25, 0.75]]), torch.zeros(1, 2), 0.1)
    assert rows.item() == pytest.approx(math.log(2))


def test_patch_loss_counts_crops_without_mask_as_zero() -> None:
    probs, student = torch.full((3, 4), 0.25), torch.zeros(3, 4)
    weights = torch.tensor([0.5, 0.5, 1.0])  # two patches of one crop, one of another
    loss = d.patch_loss_reference(probs, student, weights, crops=4, temperature=0.1)
    assert loss.item() == pytest.approx(2 * math.log(4) / 4)


def test_patch_loss_of_no_masked_patch_is_zero() -> None:
    empty = torch.zeros(0, 4, requires_grad=True)
    loss = d.patch_loss_reference(empty.detach(), empty, torch.zeros(0), crops=4, temperature=0.1)
    loss.backward()
    assert loss.item() == 0


def test_koleo_is_the_log_distance_to_the_nearest() -> None:
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert d.koleo(features).item() == pytest.approx(-math.log(math.sqrt(2)), abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 rows"):
        d.koleo(features[:1])


def test_one_student_view_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(ValueError, match="1 student views are too few for 1 of the teacher"):
        d.view_loss(
            logits(1, 3, 5), logits(1, 3, 5), torch.zeros(5),
            student_temperature=0.1, teacher_temperature=0.05,
        )  # fmt: skip
