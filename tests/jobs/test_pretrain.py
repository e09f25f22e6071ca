"""The whole job on Ray Train, and what it refuses; `tests/faults` disturbs it."""

import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from actors.pretraining.config import LocalCrops, PretrainerConfig
from actors.pretraining.probe import ProbeConfig
from cluster.errors import ConfigError
from cluster.pool import Pool
from jobs import pretrain as job
from models.moment_adapter import AdapterConfig
from models.moment_dino import MomentDinoConfig
from tests.actors.small_base_set import CONFIG, noise, publish, write_base_set, write_clip
from tests.actors.small_world import make_dataset
from tests.noted_pool import NotedPool, noted_threads
from tests.test_recipes import loaded


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> job.PretrainConfig:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return job.PretrainConfig(
        storage=str(tmp_path),
        base_set=write_base_set(tmp_path).uri,
        backbone=write_clip(tmp_path),
        pool=Pool(workers=2),
        save_every=2,
        pretrainer=CONFIG,
    )


@pytest.mark.parametrize(
    ("recipe", "adapter"),
    [
        ("clip_b16", AdapterConfig()),
        ("clip_l14", AdapterConfig(depth=6, inner=576, heads=9)),
    ],
)
def test_the_released_recipes_are_the_default(recipe: str, adapter: AdapterConfig) -> None:
    assert loaded(f"{recipe}.yaml").pretrainer == PretrainerConfig(
        model=MomentDinoConfig(adapter=adapter)
    )


def test_a_run_can_be_watched(
    cfg: job.PretrainConfig, tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """One worker, with two CPUs: its rows of metrics, the same for TensorBoard, and accuracies on
    other images; of what it could not read it says how much."""
    notes = tmp_path / "notes"
    notes.mkdir()
    labelled = make_dataset(tmp_path)
    probe = ProbeConfig(datasets=[labelled.artifact.uri], every=6, per_class=4)
    pool = NotedPool(workers=1, cpus=2, notes=str(notes))
    rows = noise()
    for view in range(3):
        rows[view]["image"] = b"no picture"
    broken = publish(tmp_path / "broken", rows).uri
    held_out = dataclasses.replace(CONFIG, held_out=0.1)
    cfg = dataclasses.replace(cfg, base_set=broken, pretrainer=held_out)
    teacher = job.pretrain(dataclasses.replace(cfg, pool=pool, probe=probe))
    assert teacher.manifest.extra == {"captions": 17, "unreadable": 3}
    said = "3 images cannot be decoded, others of their captions stood in their place; the first: "
    assert said in capsys.readouterr().err
    assert noted_threads(notes) == [2], "a reserved CPU is a used one"
    folder = teacher.local_dir()
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == list(range(1, 13))
    knn = f"{labelled.name}/teacher/knn"
    probed = {row["step"]: row for row in metrics if knn in row}
    assert list(probed) == [6, 12]
    tried = {name.split("/")[0] for name in probed[6] if name.endswith("/raw/ncm")}
    assert tried == {"held_out", labelled.name}
    (events,) = (folder / "tensorboard").iterdir()
    assert scalars(events)["loss"] == pytest.approx({row["step"]: row["loss"] for row in metrics})
    assert scalars(events)[knn] == pytest.approx({s: row[knn] for s, row in probed.items()})
    assert job.pretrain(dataclasses.replace(cfg, pool=Pool(workers=1))) == teacher, "done before"


def scalars(events: Path) -> dict[str, dict[int, float]]:
    """Name to step to value, of TensorBoard's file."""
    data, found = events.read_bytes(), defaultdict[str, dict[int, float]](dict)
    while data:  # length (8), its checksum (4), record, its checksum (4)
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        for value in event.summary.value:
            found[value.tag][event.step] = value.simple_value
        data = data[16 + size :]
    return found


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"pool": Pool(workers=10)}, r"batch_size: 4; allowed: from 20 \(two a worker\) to 18"),
        ({"workers_min": 3}, r"workers_min: 3; allowed: at most pool\.workers \(2\)"),
        (
            {"pretrainer": dataclasses.replace(CONFIG, batch_size=20)},
            r"batch_size: 20; allowed: from 4 .* to 18",
        ),
        (
            {"pretrainer": dataclasses.replace(CONFIG, local=LocalCrops(count=1, size=6))},
            r"local.size: 6; allowed: multiples of .* \(4 pixels\)",
        ),
        ({"probe": ProbeConfig(datasets=["/nowhere"])}, "dataset: .* does not exist"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(
    cfg: job.PretrainConfig, bad: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        job.pretrain(dataclasses.replace(cfg, **bad))


@pytest.mark.parametrize(("teacher", "lines"), [(0.692, 1), (0.721, 0)])
def test_a_teacher_worse_than_none_is_said(
    teacher: float, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = {"held_out/teacher/ncm": teacher, "held_out/raw/ncm": 0.721}
    job._say_useless([{"step": 1.0, "loss": 3.0}, {"step": 2.0} | accuracies])
    said = capsys.readouterr().err
    assert said.count("\n") == said.count("name 69.2%, those of CLIP's own tokens 72.1%") == lines
