"""The nearest class mean, against a plain computation in float64."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from kernels.moments import moments_reference
from models.methods import METHODS
from models.methods.class_means import ClassMeansHyper
from models.moment_adapter import AdapterConfig, MomentAdapter
from tests.models.methods.tasks import NAMES, features, task, tiny_clip

ADAPTER = AdapterConfig(depth=1, inner=12, heads=2)
MEANS = METHODS["class_means"]


def drawn(seed: int) -> MomentAdapter:
    torch.manual_seed(seed)
    return MomentAdapter(tiny_clip().embed_dim, ADAPTER).eval()


@pytest.mark.parametrize("start", ["raw", "random", "teacher"])
def test_logits_are_scaled_cosines_of_moments_and_their_class_means(start: str) -> None:
    cell, test = task(), features(3, 7)
    adapter = {"raw": None, "random": drawn(seed=3), "teacher": drawn(seed=5)}[start]
    hyper = ClassMeansHyper(
        adapter=ADAPTER, without_teacher="random" if start == "random" else "raw", precision="fp32"
    )
    state = drawn(seed=5).state_dict() if start == "teacher" else None
    logits = MEANS.fit(cell, hyper, seed=3, teacher=state).logits(test.clean)

    def of(tokens: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return normalize(
                moments_reference((adapter or (lambda x: x))(tokens.float()).double()), dim=1
            )

    views = [of(view) for view in cell.train.tokens]
    labels = cell.train.labels
    means = [torch.cat([v[labels == c] for v in views]).mean(dim=0) for c in range(len(NAMES))]
    cosines = of(test.clean) @ normalize(torch.stack(means), dim=1).T
    scale = tiny_clip().logit_scale
    torch.testing.assert_close(logits.double(), scale * cosines, rtol=1e-4, atol=1e-3)


def test_a_class_without_shots_has_cosine_zero() -> None:
    cell = task()
    without = cell.train.of_images((cell.train.labels != 0).nonzero().squeeze(1))
    one = replace(cell, train=without.copied(), val=None)
    logits = MEANS.fit(one, ClassMeansHyper(), seed=0).logits(features(3, 7).clean)
    assert (logits[:, 0] == 0).all()
    assert (logits[:, 1:] != 0).all()
