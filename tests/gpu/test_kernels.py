"""Kernels on a GPU against their references; `tests/kernels` runs there, too."""

import pytest
import torch

from kernels import attention as attention_module
from kernels.attention import attention, attention_reference
from kernels.backend import xformers_works
from models.views import NUMBERS, ViewConfig, make_views


@pytest.fixture(params=["xformers", "PyTorch's own"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "xformers":
        monkeypatch.setattr(attention_module, "xformers_works", lambda: False)
    elif not xformers_works():
        pytest.skip("xformers has no kernel here")


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("shape", [(2, 3, 65, 8), (4, 12, 197, 64), (2, 8, 77, 64), (1, 1, 1, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_and_its_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, causal: bool
) -> None:
    rng = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=rng).to("cuda", dtype) for _ in range(4)]
    *values, incoming = given
    values = [value.requires_grad_() for value in values]
    exact = [value.detach().double().requires_grad_() for value in values]
    rounding = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    results = attention(*values, causal=causal), attention_reference(*exact, causal=causal)
    gradients = zip(
        torch.autograd.grad(results[0], values, incoming),
        torch.autograd.grad(results[1], exact, incoming.double()),
        strict=True,
    )
    for got, expected in [results, *gradients]:
        largest = max(1.0, float(expected.abs().max()))
        assert (got.double() - expected).abs().max() <= rounding * largest


@pytest.mark.parametrize("view", [0, 1])
def test_views_are_those_of_the_cpu(view: int) -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (16, 3, 60, 50), generator=rng, dtype=torch.uint8)
    numbers = torch.rand(16, NUMBERS, generator=rng)
    here = make_views(images, numbers, view, 32, ViewConfig())
    there = make_views(images.cuda(), numbers.cuda(), view, 32, ViewConfig()).cpu()
    # A pixel at the solarisation's threshold may fall on its other side.
    assert ((here - there).abs() > 1e-4).float().mean() < 1e-3
