"""Packed products against float64, and where they are not packed."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from kernels.frozen_linear import LEAST_ROWS, frozen_linear


def drawn(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, rows // 2, 40), (24, 40), (24,))
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, weight, bias


@pytest.mark.parametrize("rows", [LEAST_ROWS // 2, 2 * LEAST_ROWS])
@pytest.mark.parametrize("biased", [True, False])
def test_product_and_gradient_are_those_of_linear(rows: int, biased: bool) -> None:
    x, weight, bias = drawn(rows)
    given = bias if biased else None
    exact = x.double().requires_grad_()
    expected = linear(exact, weight.double(), bias.double() if biased else None)
    expected.square().sum().backward()
    for _ in range(2):  # packed, then found packed
        found = x.clone().requires_grad_()
        made = frozen_linear(found, weight, given)
        made.square().sum().backward()
        torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-5)
        assert found.grad is not None
        torch.testing.assert_close(found.grad, exact.grad, check_dtype=False, rtol=1e-4, atol=1e-4)


def test_a_weight_that_is_written_to_is_packed_again() -> None:
    x, weight, _ = drawn(2 * LEAST_ROWS)
    before = frozen_linear(x, weight, None)
    weight.mul_(2)
    torch.testing.assert_close(frozen_linear(x, weight, None), 2 * before)


def test_a_weight_that_takes_gradients_gets_them() -> None:
    x, weight, bias = drawn(2 * LEAST_ROWS)
    weight.requires_grad_()
    frozen_linear(x, weight, bias).sum().backward()
    expected = x.sum(dim=(0, 1)).expand(24, 40)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-4)


def test_under_autocast_the_product_is_bfloat16s() -> None:
    x, weight, bias = drawn(2 * LEAST_ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        assert frozen_linear(x, weight, bias).dtype == torch.bfloat16
