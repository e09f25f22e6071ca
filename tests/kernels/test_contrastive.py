import math

import pytest
import torch

from kernels.contrastive import (
    base_double_loss,
    base_double_loss_reference,
    caption_loss,
    multi_positive_loss,
    multi_positive_loss_reference,
)

DTYPES = [torch.float32, torch.float64]


def random_rows(rows: int, columns: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(rows * 31 + columns)
    logits = torch.randn(rows, columns, generator=rng, dtype=torch.float64).to(dtype)
    positives = torch.rand(rows, columns, generator=rng) < 0.4
    positives[:, 0] = True
    return logits, positives


def test_two_rows_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [math.log(2), 0.0, 0.0]])
    positives = torch.tensor([[True, True, False], [True, False, False]])
    expected = -(math.log(2 / 3) + math.log(1 / 2)) / 2
    assert multi_positive_loss(logits, positives).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (1, 9), (33, 2)])
def test_logsumexp_is_the_reference_where_nothing_saturates(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    logits, positives = random_rows(*shape, dtype)
    fast, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (3 * multi_positive_loss(fast, positives)).backward()  # an incoming gradient other than 1
    (3 * multi_positive_loss_reference(plain, positives)).backward()
    allowed = 1e-6 if dtype == torch.float32 else 1e-8  # the eps of 1e-10 against masses >= 1e-2
    torch.testing.assert_close(fast.grad, plain.grad, rtol=allowed, atol=allowed)
    loss = multi_positive_loss(logits, positives)
    torch.testing.assert_close(
        loss, multi_positive_loss_reference(logits, positives), rtol=allowed, atol=allowed
    )


def test_a_hopeless_row_still_has_a_gradient() -> None:
    logits = torch.tensor([[0.0, 80.0]], requires_grad=True)
    positives = torch.tensor([[True, False]])
    loss = multi_positive_loss(logits, positives)
    loss.backward()
    assert loss.item() == pytest.approx(80.0)
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(-1.0)
    assert multi_positive_loss_reference(logits, positives).item() == pytest.approx(23.03, abs=0.01)


def test_classes_absent_from_the_batch_add_nothing() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 0, 1])
    to_text = torch.nn.functional.cross_entropy(logits, labels)
    to_image = multi_positive_loss(logits.T[:2], torch.stack([labels == 0, labels == 1]))
    assert torch.allclose(base_double_loss(logits, labels), (to_text + to_image) / 2)
    assert base_double_loss_reference(logits, labels) > base_double_loss(logits, labels) + 3


def test_one_class_alone_is_no_loss() -> None:
    loss = base_double_loss(torch.randn(3, 1), torch.zeros(3, dtype=torch.int64))
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_no_positive_anywhere_is_a_differentiable_zero() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = multi_positive_loss(logits, torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_captions_of_one_class_are_all_positive() -> None:
    labels = torch.tensor([0, 0, 1])
    logits = torch.tensor([[5.0, 5.0, -9.0], [5.0, 5.0, -9.0], [-9.0, -9.0, 5.0]])
    assert caption_loss(logits, labels).item() == pytest.approx(0.0, abs=1e-5)
