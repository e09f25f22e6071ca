import pytest
import torch
from torch.nn.functional import nll_loss, one_hot

from kernels.fusion import fuse
from models.methods.selection import choose_head, only_head

TARGET = torch.tensor([0, 1, 2, 0, 1, 2])
RIGHT = one_hot(TARGET, 3).float()
WRONG = one_hot((TARGET + 1) % 3, 3).float()


def test_a_useless_head_is_left_out() -> None:
    for scale in (0.1, 1.0, 10.0):
        assert choose_head(visual=3 * RIGHT, text=scale * WRONG, target=TARGET).head == "visual"
        assert choose_head(visual=scale * WRONG, text=3 * RIGHT, target=TARGET).head == "text"


def test_the_choice_is_the_lowest_cross_entropy_of_all() -> None:
    rng = torch.Generator().manual_seed(0)
    visual, text = (2 * RIGHT + torch.randn(6, 3, generator=rng) for _ in range(2))
    chosen = choose_head(visual, text, TARGET)
    assert chosen.val_loss is not None
    for weight in (0.0, 0.3, 0.5, 0.9, 1.0):
        fused = fuse(visual, text, weight)
        assert chosen.val_loss <= nll_loss(fused.log(), TARGET).item() + 1e-6


def test_heads_that_err_apart_are_better_together() -> None:
    visual, text = 3 * RIGHT, 3 * RIGHT
    visual[0], text[1] = torch.tensor([0.0, 0.5, 0.0]), torch.tensor([0.5, 0.0, 0.0])
    chosen = choose_head(visual, text, TARGET)
    assert chosen.head == "fused"
    assert chosen.val_accuracy == 1.0
    assert chosen.head_accuracy is not None
    assert chosen.head_accuracy["visual"] == pytest.approx(5 / 6)
    assert chosen.head_accuracy["text"] == pytest.approx(5 / 6)


def test_no_val_image_chooses_nothing() -> None:
    nothing = torch.empty(0, 3)
    assert choose_head(nothing, nothing, TARGET[:0]).val_accuracy is None
    assert only_head("text", nothing, TARGET[:0]).val_accuracy is None
