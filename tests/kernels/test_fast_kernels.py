"""The fast kernels, in torch and in Triton, with gradients, against the references.

Triton's interpreter is faithful in float32 and float16; bfloat16 is judged on a GPU only.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kernels import distillation as d
from kernels import moments as m

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])]
HALF_BIT = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Rounding of a result in that dtype, relative to the largest one."""
TIMES_THE_ERROR = 3 if DEVICE == "cuda" else 2
"""Of the reference. On an H100 one gradient in float32 had 2.4 times as much."""


@pytest.fixture(autouse=True, params=["torch", "triton"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/conftest.py turns Triton's interpreter on where there is no GPU."""
    if request.param == "triton":
        pytest.importorskip("triton")
    for module in (d, m):
        monkeypatch.setattr(
            module, "uses_triton", lambda x: request.param == "triton" and x.dtype != torch.float64
        )
        monkeypatch.setattr(module, "CHUNK_ELEMENTS", 300)


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(DEVICE, dtype)


def with_gradient(f: Callable[[Tensor], Tensor], x: Tensor, weights: Tensor) -> tuple:
    x = x.clone().requires_grad_()
    y = f(x)
    return y, torch.autograd.grad(y, x, weights.to(y.dtype))[0]


def as_exact(got: tuple, reference: tuple, exact: tuple) -> None:
    """May err some times as much as the reference in that dtype, and its result be rounded."""
    for mine, plain, truth in zip(got, reference, exact, strict=True):
        assert mine.dtype == plain.dtype
        size = truth.abs().max() if truth.numel() else torch.zeros(())
        allowed = TIMES_THE_ERROR * _error(plain, truth) + HALF_BIT[mine.dtype] * size
        assert _error(mine, truth) <= allowed


def _error(x: Tensor, exact: Tensor) -> Tensor:
    return (x.double() - exact).abs().max() if x.numel() else torch.zeros(())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 65, 64), (2, 66, 100), (1, 198, 33), (0, 5, 8)])
def test_moments(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    tokens = random(*shape, seed=0, dtype=dtype)
    weights = random(shape[0], 4 * shape[2], seed=1)
    as_exact(
        with_gradient(m.moments, tokens, weights),
        with_gradient(m.moments_reference, tokens, weights),
        with_gradient(m.moments_reference, tokens.double(), weights),
    )


def test_moments_far_from_zero_are_as_exact() -> None:
    """Power sums that are not centred would have no digit left here."""
    tokens, weights = random(2, 150, 20, seed=0) * 0.1 + 100, random(2, 80, seed=1)
    mean, variance, third = m.central_moments(tokens)
    truth = tokens[:, 1:].double()
    centred = truth - truth.mean(dim=1, keepdim=True)
    assert torch.allclose(mean.double(), truth.mean(dim=1), rtol=1e-6)
    assert torch.allclose(variance.double(), centred.square().mean(dim=1), rtol=1e-3)
    assert torch.allclose(third.double(), centred.pow(3).mean(dim=1), atol=2e-5)
    assert with_gradient(m.moments, tokens, weights)[1].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("centering", ["centre", "sinkhorn", "none"])
@pytest.mark.parametrize(("views", "crops", "prototypes"), [(2, 3, 12), (5, 2, 129), (2, 1, 1)])
def test_view_loss(
    views: int, crops: int, prototypes: int, centering: d.Centering, dtype: torch.dtype
) -> None:
    teacher = random(2, crops, prototypes, seed=0).clamp(-1, 1).to(dtype)
    centre = random(prototypes, seed=1) * 0.1

    def fused(student: Tensor) -> Tensor:
        given = teacher.to(student.dtype)
        potential = d.column_potential(given.flatten(0, 1), centre, 0.05, centering)
        return d.view_loss(
            student, given, potential, student_temperature=0.1, teacher_temperature=0.05
        )

    def plain(student: Tensor) -> Tensor:
        given = teacher.to(student.dtype).flatten(0, 1)
        probs = d.teacher_targets(given, centre.to(d._exact(student).dtype), 0.05, centering)
        return d.view_loss_reference(probs.unflatten(0, (2, -1)), student, 0.1)

    student = random(views, crops, prototypes, seed=2).clamp(-1, 1).to(dtype)
    weight = torch.tensor(0.7, device=DEVICE)
    as_exact(
        with_gradient(fused, student, weight),
        with_gradient(plain, student, weight),
        with_gradient(plain, student.double(), weight),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("patches", [0, 1, 7])
def test_patch_loss(patches: int, dtype: torch.dtype) -> None:
    teacher = random(patches, 130, seed=0).clamp(-1, 1).to(dtype)
    centre, weights = random(130, seed=1) * 0.1, random(patches, seed=3).abs()

    def fused(student: Tensor) -> Tensor:
        return d.patch_loss(
            student, teacher, -centre / 0.05, weights, 4,
            student_temperature=0.1, teacher_temperature=0.05,
        )  # fmt: skip

    def plain(student: Tensor) -> Tensor:
        exact = d._exact(student).dtype
        probs = d.teacher_probs(teacher.to(student.dtype), centre.to(exact), 0.05)
        return d.patch_loss_reference(probs, student, weights.to(exact), 4, 0.1)

    student = random(patches, 130, seed=2).clamp(-1, 1).to(dtype)
    weight = torch.tensor(0.7, device=DEVICE)
    as_exact(
        with_gradient(fused, student, weight),
        with_gradient(plain, student, weight),
        with_gradient(plain, student.double(), weight),
    )
