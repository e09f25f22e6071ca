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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_mask_hides_counts_for_nothing(dtype: torch.dtype) -> None:
    values = operands((2, 3, 7, 5), dtype)
    seen = torch.zeros(2, 3, 7, 7, dtype=dtype)
    seen[0, :, :, 5:] = -torch.inf
    seen[1, 0, 2:, 0] = -torch.inf
    masked = attention(*values, mask=seen)
    exact = attention_reference(*(v.double() for v in values), mask=seen.double())
    assert (masked.double() - exact).abs().max() <= (2e-6 if dtype == torch.float32 else 2e-2)
    cut = attention_reference(values[0][:1], values[1][:1, :, :5], values[2][:1, :, :5])
    torch.testing.assert_close(attention_reference(*values, mask=seen)[:1], cut)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_reference(masked: bool) -> None:
    values = operands((2, 2, 9, 4), torch.float32)
    incoming = torch.randn(2, 2, 9, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, 2, 9, 9)
    mask[..., 7:] = -torch.inf
    hidden = mask if masked else None
    expected = torch.autograd.grad(attention_reference(*values, mask=hidden), values, incoming)
    got = torch.autograd.grad(attention(*values, mask=hidden), values, incoming)
    for gradient, reference in zip(got, expected, strict=True):
        assert torch.allclose(gradient, reference, rtol=1e-5, atol=1e-6)
