"""Moment pooling against numbers worked out by hand, and in low precision against itself."""

import pytest
import torch

from kernels.moments import EPSILON, moments, moments_reference


def test_moments_of_two_patches_by_hand() -> None:
    tokens = torch.tensor([[[7.0], [1.0], [3.0]]])  # class token 7, patches 1 and 3
    assert torch.allclose(
        moments(tokens), torch.tensor([[7.0, 2.0, (1 + EPSILON) ** 0.5, 0.0]]), atol=1e-6
    )


def test_third_moment_keeps_its_sign() -> None:
    tokens = torch.tensor([[0.0, 0.0, 0.0, 3.0]]).view(1, 4, 1)
    third = moments(torch.cat([torch.zeros(1, 1, 1), tokens], dim=1))[0, 3]
    mirrored = moments(torch.cat([torch.zeros(1, 1, 1), -tokens], dim=1))[0, 3]
    exact = (sum((x - 0.75) ** 3 for x in (0.0, 0.0, 0.0, 3.0)) / 4 + EPSILON) ** (1 / 3)
    assert third == pytest.approx(exact, rel=1e-6)
    assert mirrored == -third


def test_gradient_agrees_with_finite_differences() -> None:
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(moments, (tokens,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_pooled_in_float32(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 65, 8, generator=rng).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = moments(tokens)
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled, moments_reference(tokens.float()))


def test_no_patch_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one patch"):
        moments(torch.zeros(2, 1, 4))
