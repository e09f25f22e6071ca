"""What is particular to CLIP-Adapter, TaskRes and Tip-Adapter."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from models.methods.clip_adapter import ClipAdapter, ClipAdapterHyper
from models.methods.taskres import TaskRes, TaskResHyper
from models.methods.tip_adapter import (
    ALPHAS,
    BETAS,
    TipAdapter,
    TipAdapterF,
    TipAdapterFHyper,
    TipAdapterHyper,
)
from tests.models.methods.tasks import NAMES, features, task, tiny_clip

TOKENS = features(3, 7).clean
IMAGES = normalize(TOKENS[:, 0].float(), dim=-1)


def zero_shot_logits() -> torch.Tensor:
    return tiny_clip().logit_scale * IMAGES @ task().text.T


@pytest.mark.parametrize("unit_norm", [True, False])
def test_taskres_starts_as_zero_shot(unit_norm: bool) -> None:
    still = TaskResHyper(alpha=1e-9, epochs=1, unit_norm=unit_norm)
    torch.testing.assert_close(
        TaskRes.fit(task(), still, seed=0).logits(TOKENS), zero_shot_logits()
    )


def test_clip_adapter_mixes_the_raw_feature() -> None:
    hyper = ClipAdapterHyper(epochs=2, ratio=0.3)
    adapted = ClipAdapter.fit(task(), hyper, seed=0)
    down, up = adapted.tensors()["down.weight"], adapted.tensors()["up.weight"]
    assert down.shape == (4, 16)
    x = TOKENS[:, 0].float()
    mixed = 0.3 * torch.relu(torch.relu(x @ down.T) @ up.T) + 0.7 * x
    expected = tiny_clip().logit_scale * normalize(mixed, dim=-1) @ task().text.T
    torch.testing.assert_close(adapted.logits(TOKENS), expected)
    nothing = ClipAdapter.fit(task(), replace(hyper, ratio=0.0), seed=0).logits(TOKENS)
    torch.testing.assert_close(nothing, zero_shot_logits())


def test_without_val_the_published_defaults_answer() -> None:
    cell = task(val=False)
    keys = normalize(cell.train.tokens[:, :, 0].float().mean(dim=0), dim=-1)
    cache = torch.exp(-5.5 * (1 - IMAGES @ keys.T))
    values = torch.eye(len(NAMES))[cell.train.labels]
    model = TipAdapter.fit(cell, TipAdapterHyper(), seed=0)
    torch.testing.assert_close(model.logits(TOKENS), zero_shot_logits() + 1.0 * cache @ values)


def test_val_chooses_weight_and_sharpness_and_training_moves_the_keys() -> None:
    cell = task()
    free, trained = (
        TipAdapter.fit(cell, TipAdapterHyper(), seed=0).tensors(),
        TipAdapterF.fit(cell, TipAdapterFHyper(), seed=0).tensors(),
    )
    for tensors in (free, trained):
        assert tensors["alpha"] in ALPHAS
        assert tensors["alpha"] > 0
        assert tensors["beta"] in BETAS
    assert torch.equal(free["labels"], trained["labels"])
    assert not torch.allclose(free["keys"], trained["keys"])
