"""What `python -m jobs.bench search` compares with is the original's procedure."""

from pathlib import Path

import pytest
import torch

from actors.pictures.base_set import open_base_set_rows
from jobs.bench.search.growth import _cells
from jobs.bench.search.original import Labelled, Original, Training, imagined, training
from models.backbones import load_clip
from models.methods.imagine_model import ImagineModel
from models.moment_adapter import AdapterConfig
from tests.actors.small_world import CONCEPTS, make_base_set, make_dataset

ADAPTER = AdapterConfig(depth=1, inner=16, heads=1)


def test_every_step_and_every_fusion_weight_pass_the_backbone(tmp_path: Path) -> None:
    dataset, base_set = make_dataset(tmp_path), make_base_set(tmp_path)
    count = len(imagined(dataset, base_set.uri).images)
    assert count == sum(row["dataset"] == "toys" for row in _good(base_set.uri)) > 0
    run = Training(
        dataset=dataset.artifact.uri,
        base_set=base_set.uri,
        shots=2,
        lr=1e-3,
        epochs=3,
        adapter=ADAPTER,
    )
    done = training(run)
    steps = 3  # fewer images than a batch: one step an epoch
    seen = steps * (2 * len(CONCEPTS) + count) + done["passes"] * 2 * len(CONCEPTS)
    assert done["forwards"] == seen
    assert done["passes"] >= 2
    assert done == training(run) | {n: done[n] for n in ("train_seconds", "val_seconds")}


class _Curve(Original):
    """Val accuracy by fusion weight as it is given."""

    fused = (0.5, 0.625, 0.625, 0.5, 1.0)

    def _accuracies(self, val: Labelled, weight: float) -> tuple[float, float, float]:
        return self.fused[round(weight / 0.02)], 0.25, 0.5


def test_the_fusion_search_ends_at_the_first_drop() -> None:
    clip = load_clip("tiny")
    curve = _Curve(clip, ImagineModel(clip.embed_dim, 2, ADAPTER, "fp32"))
    assert curve.validate(Labelled([], torch.empty(0))) == (0.625, 4)


@pytest.mark.parametrize("count", [1, 5, 7, 55])
def test_growth_has_as_many_cells_as_are_asked_for(count: int) -> None:
    assert sum(len(method.shots) for method in _cells(count).values()) == count


def _good(uri: str) -> list[dict]:
    return list(open_base_set_rows(uri).good(["dataset"]))
