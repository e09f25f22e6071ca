"""What `python -m jobs.bench` compares is the same computation."""

from pathlib import Path

import pytest
import torch

from actors.pictures.base_set import open_base_set_rows
from actors.pretraining.config import PretrainerConfig
from cluster.errors import ConfigError
from jobs.bench import discovery as bench_discovery
from jobs.bench import schedules as b
from jobs.bench.feeding import Feeding, b16_feeding, feeding
from jobs.bench.pretrain import PretrainBench, pretraining
from jobs.bench.reading import _measured, write_base_set
from jobs.bench.views import views_per_second
from models.backbones import load_clip
from models.dino_head import HeadConfig
from models.moment_adapter import AdapterConfig
from models.moment_dino import MomentDino, MomentDinoConfig
from models.views import ViewConfig

HEAD = HeadConfig(prototypes=12, hidden=16, bottleneck=8)
MODEL = MomentDinoConfig(
    adapter=AdapterConfig(depth=1, inner=8, heads=2),
    dino_head=HEAD,
    ibot_head=HEAD,
    centering="sinkhorn",
)


def test_both_schedules_take_the_same_steps() -> None:
    after = []
    for schedule in (b._ours, b._straightforward):
        torch.manual_seed(0)
        backbone = load_clip("tiny")
        model = MomentDino(backbone, MODEL)
        step, move_teacher = schedule(model, backbone)
        batch = b._batch(backbone, b.Shapes("tiny", MODEL, 2))
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
        for _ in range(2):
            done = step(*batch)
            done.loss.backward()
            optimizer.step()
            move_teacher(done)
        after.append((done, model.state_dict()))
    (ours, our_weights), (plain, plain_weights) = after
    assert ours.ibot > 0
    for name in ("loss", "dino", "ibot", "koleo"):
        assert torch.allclose(getattr(ours, name), getattr(plain, name), rtol=1e-4)
    for name, weight in our_weights.items():
        assert torch.allclose(weight, plain_weights[name], atol=1e-4), name


def test_views_are_measured_on_both_ways() -> None:
    figures = views_per_second(24, 16, ViewConfig())
    assert len(figures) == 5
    assert all(value > 0 for value in figures.values())


def test_a_base_set_is_read_from_its_files_and_then_from_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = write_base_set(tmp_path, rows=40, pixels=24)
    rows = open_base_set_rows(uri)
    assert rows.count_images() == 40
    assert len(rows.index) == 10
    figures = _measured(uri, str(tmp_path / "cache"))
    assert len(figures) == 5
    assert figures["first_batch_disk_mb"] > 20 * 3 * 24 * 24 / 1e6, "what was decoded"


def test_training_is_measured_beside_its_tower_and_its_loaders(tmp_path: Path) -> None:
    pretrainer = PretrainerConfig(model=MODEL, batch_size=4, frozen_epochs=0)
    shapes = Feeding(pretrainer, "tiny", "cpu", rows=40, pixels=24, steps=4, compiled=(False,))
    figures = feeding(shapes)
    assert all(value > 0 for value in figures.values())
    for source in ("encoded", "kept", "memory"):
        speed = figures[f"plain_{source}_views_per_second"]
        tower = figures["plain_tower_views_per_second"]
        assert figures[f"plain_{source}_of_tower"] == pytest.approx(speed / tower)
    per_core = figures["encoded_images_per_core_second"]
    assert figures["encoded_cores_of_1890_views_per_second"] == pytest.approx(1890 / per_core)
    assert figures["plain_cores"] == pytest.approx(
        figures["plain_memory_views_per_second"] / per_core
    )


def test_without_a_gpu_its_measurement_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="gpu: true, but torch sees no GPU; allowed: false"):
        pretraining(PretrainBench(gpu=True))


def test_the_gpus_recipe_is_the_released_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    shapes = b16_feeding()
    assert shapes.pretrainer.batch_size == 200
    assert shapes.rows // 4 >= shapes.pretrainer.batch_size, "a step has as many captions"


def test_grouped_linkage_is_measured_against_the_exact_one() -> None:
    cfg = bench_discovery.DiscoveryBench(images=[600], dim=32, classes=6, ward_points=80)
    grouped, exact = (bench_discovery._measure(name, 600, cfg) for name in ("grouped", "exact"))
    assert grouped.keys() == exact.keys()
    assert grouped["accuracy"] > exact["accuracy"] - 0.1 > 0.5
    assert bench_discovery._measure("blocks", 600, cfg)["seconds"] > 0
