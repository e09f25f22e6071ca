"""What is chosen must be as exact as the reference, with and without gradients."""

import pytest
import torch

from kernels.attention import attention, attention_reference


def operands(shape: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=rng).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("shape", [(2, 3, 65, 8), (1, 1, 1, 1), (2, 3, 7, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_as_exact_as_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, grad: bool, causal: bool
) -> None:
    values = operands(shape, dtype)
    with torch.set_grad_enabled(grad):
        exact = attention_reference(*(v.double() for v in values), causal=causal)
        plain = attention_reference(*values, causal=causal)
        allowed = 2 * (plain.double() - exact).abs().max() + 1e-6
        error = (attention(*values, causal=causal).double() - exact).abs().max()
    # Library kernels round the probabilities to bfloat16 before the second product.
    rounding = 2**-8 if dtype == torch.bfloat16 else 0.0
    assert error <= allowed + rounding * values[2].abs().max()


def test_gradients_are_those_of_the_reference() -> None:
    values = operands((2, 2, 9, 4), torch.float32)
    incoming = torch.randn(2, 2, 9, 4, generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad(attention_reference(*values), values, incoming)
    got = torch.autograd.grad(attention(*values), values, incoming)
    for gradient, reference in zip(got, expected, strict=True):
        assert torch.allclose(gradient, reference, rtol=1e-5, atol=1e-6)
