import pytest
import torch
from torch.nn.functional import one_hot

from models.methods.selection import choose_head, only_head

TARGET = torch.tensor([0, 1, 2, 0, 1, 2])
RIGHT = one_hot(TARGET, 3).float()
WRONG = one_hot((TARGET + 1) % 3, 3).float()


def test_a_useless_head_is_left_out() -> None:
    # so sure of the wrong class that any share of it spoils the mixture at every temperature
    chosen = choose_head(visual=RIGHT, text=1000 * WRONG, target=TARGET)
    assert chosen.val_accuracy == 1.0
    assert chosen.fusion_weight > 0.5
    chosen = choose_head(visual=1e6 * WRONG, text=0.01 * RIGHT, target=TARGET)
    assert (chosen.head, chosen.fusion_weight) == ("text", 0.0)


def test_ties_stay_at_the_declared_default() -> None:
    chosen = choose_head(visual=RIGHT, text=RIGHT, target=TARGET)
    assert (chosen.head, chosen.fusion_weight, chosen.visual_temperature) == ("fused", 0.5, 1.0)


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
    assert only_head("text", None, None).val_accuracy is None
