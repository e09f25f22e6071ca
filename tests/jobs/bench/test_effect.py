"""`python -m jobs.bench effect` on a small world of its own."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from actors.embedded import target_scenes
from actors.features.encoder import EncoderConfig
from actors.pretraining.config import PretrainerConfig
from actors.synthesis.captions.writer import WriterConfig
from cluster.errors import ConfigError
from cluster.pool import Pool
from jobs.bench.effect import EffectBench, effect
from jobs.dataset import DatasetSpec
from jobs.world import WorldConfig
from models.dino_head import HeadConfig
from models.moment_adapter import AdapterConfig
from models.moment_dino import MomentDinoConfig

pytestmark = pytest.mark.ray
HEAD = HeadConfig(prototypes=16, hidden=16, bottleneck=8)


def bench(storage: Path) -> EffectBench:
    adapter = AdapterConfig(depth=1, inner=12, heads=2)
    model = MomentDinoConfig(adapter=adapter, dino_head=HEAD, ibot_head=HEAD)
    datasets: list[str | DatasetSpec] = ["tools"]
    world = WorldConfig(
        datasets=datasets,
        writer=WriterConfig(per_class=2, pool=Pool(workers=1)),
        pretrainer=PretrainerConfig(model=model, epochs=1, batch_size=28, lr=1e-3),
        encoder=EncoderConfig(backbone="tiny", views=1, imagined_views=1),
        pool=Pool(workers=1),
    )
    return EffectBench(
        storage=str(storage),
        world=world,
        pretraining_seeds=[0],
        shots=[1],
        seeds=[0],
        hyper={"head_steps": 2, "steps": 1},
    )


def test_features_and_heads_are_set_against_raw_tokens_and_a_random_adapter(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_scenes, "PER_CLASS", {"train": 2, "val": 2, "test": 4})
    cfg = bench(tmp_path)
    values = effect(cfg)
    pairs = [
        f"{name}_{against}"
        for name in ("features", "visual", "fused")
        for against in ("raw", "random")
    ]
    assert {key for key in values if "gain" in key} == {
        f"{group}_{pair}_gain_1_shots" for group in ("all", "OOP", "IP") for pair in pairs
    }
    assert {values[key] for key in values if "datasets" in key} == {1}
    assert all(-100 <= values[key] <= 100 for key in values if "gain" in key)
    made = sorted(tmp_path.rglob("manifest.json"))
    assert effect(cfg) == values
    assert sorted(tmp_path.rglob("manifest.json")) == made, "nothing is made again"


@pytest.mark.parametrize("field", ["pretraining_seeds", "shots", "seeds"])
def test_nothing_to_try_is_refused(field: str, tmp_path: Path) -> None:
    nothing: dict[str, Any] = {field: []}
    with pytest.raises(ConfigError, match=f"{field}: none; allowed: at least one"):
        dataclasses.replace(bench(tmp_path), **nothing)
