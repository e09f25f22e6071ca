"""Mean shift and its losses, by hand."""

import math

import pytest
import torch

from kernels.mean_shift import decoupled_loss, mean_shift, supervised_contrastive_loss, unit
from kernels.neighbours import NeighbourIndex


def test_a_feature_moves_to_the_mean_of_its_neighbours_without_itself() -> None:
    memory = torch.eye(4)[:3].clone()
    memory[1] = unit(torch.tensor([0.9, 0.1, 0.0, 0.0]))
    feature = memory[:1].clone().requires_grad_()
    shifted = mean_shift(feature, NeighbourIndex(memory), 1, 0.5, torch.tensor([0]))
    torch.testing.assert_close(shifted, unit(0.5 * feature + 0.5 * memory[1]))
    shifted[0, 2].backward()
    norm = (0.5 * memory[0] + 0.5 * memory[1]).norm()
    expected = torch.tensor([[0, 0, 0.5 / norm.item(), 0]])  # through the feature alone
    torch.testing.assert_close(feature.grad, expected)


def test_decoupled_loss_leaves_the_positive_out_of_its_denominator() -> None:
    angle = 0.4
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    b = torch.tensor([[math.cos(angle), math.sin(angle)], [0.0, 1.0]])
    tau, loss = 0.5, 0.0
    for anchor, positive, others in (
        (a[0], b[0], (a[1], b[1])),
        (b[0], a[0], (a[1], b[1])),
        (a[1], b[1], (a[0], b[0])),
        (b[1], a[1], (a[0], b[0])),
    ):
        negatives = math.log(sum(math.exp(float(anchor @ o) / tau) for o in others))
        loss += (negatives - float(anchor @ positive) / tau) / 4
    assert decoupled_loss(torch.stack([a, b]), tau).item() == pytest.approx(loss, rel=1e-6)


def test_supervised_loss_of_each_class_in_one_place() -> None:
    views = torch.eye(3)[torch.tensor([0, 0, 1])].expand(2, 3, 3)
    loss = supervised_contrastive_loss(views, torch.tensor([0, 0, 1]), 0.5)
    e2 = math.exp(2)
    first = math.log(3 * e2 + 2) - 2  # three positives at cosine 1, two others at 0
    second = math.log(e2 + 4) - 2
    assert loss.item() == pytest.approx((4 * first + 2 * second) / 6, rel=1e-6)
    assert supervised_contrastive_loss(views[:, :0], torch.empty(0, dtype=torch.int64), 0.5) == 0
