"""One run of the whole job on Ray Train with FSDP2, killed on its way."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import auto_cli
from safetensors.torch import load_file

from actors.base_set import decode, open_base_set, open_base_set_rows
from actors.pretrainer import PretrainerConfig, Worker, pretrain
from cluster.artifacts import Artifact, ConfigError, open_artifact, plain
from jobs import pretrain as job
from models.clip import load_clip
from tests.actors.small_base_set import CONFIG, write_base_set, write_clip
from tests.processes import kill_worker, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> job.PretrainConfig:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return job.PretrainConfig(
        storage=str(tmp_path),
        base_set=write_base_set(tmp_path).uri,
        backbone=write_clip(tmp_path),
        workers=2,
        gpu=False,
        save_every=2,
        pretrainer=CONFIG,
    )


def start(cfg: job.PretrainConfig, folder: Path) -> subprocess.Popen[str]:
    (folder / "cfg.yaml").write_text(yaml.safe_dump(plain(cfg)))
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.pretrain", "--config", str(folder / "cfg.yaml")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": "local"},
    )


def checkpoints(storage: Path) -> list[Path]:
    """Whole checkpoints of the unfinished run."""
    return sorted(storage.glob("teacher/*/run/checkpoint_*/metrics.jsonl"))


def finish(run: subprocess.Popen[str]) -> Artifact:
    out, err = run.communicate(timeout=900)
    assert run.returncode == 0, err
    return open_artifact(json.loads(out.splitlines()[-1])["artifact"], "teacher")


def test_a_killed_run_goes_on_and_ends_as_one_process_would(
    cfg: job.PretrainConfig, tmp_path: Path
) -> None:
    """SIGKILL of the driver after a checkpoint; then the same command, on two FSDP workers."""
    first = start(cfg, tmp_path)
    wait_until(lambda: checkpoints(tmp_path), first)
    first.kill()
    first.wait()
    assert not list(tmp_path.glob("teacher/*/manifest.json")), "killed too late to tell anything"
    teacher = finish(start(cfg, tmp_path))
    assert_every_step(teacher)
    assert_same_teacher(teacher, cfg)
    assert not list(tmp_path.glob("teacher/*/run")), "checkpoints go once the teacher is there"
    assert job.pretrain(cfg) == teacher, "done before: no Ray is needed"


def test_a_run_whose_worker_is_killed_ends_as_one_process_would(
    cfg: job.PretrainConfig, tmp_path: Path
) -> None:
    """SIGKILL of one of two FSDP workers after a checkpoint; Ray Train starts both anew."""
    run = start(cfg, tmp_path)
    wait_until(lambda: checkpoints(tmp_path), run)
    kill_worker(run, "ray::", "ray::RayTrainWorker")
    teacher = finish(run)
    assert_every_step(teacher)
    assert_same_teacher(teacher, cfg)


def assert_every_step(teacher: Artifact) -> None:
    lines = (teacher.local_dir() / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))


def assert_same_teacher(teacher: Artifact, cfg: job.PretrainConfig) -> None:
    """As trained in one go in this process, without FSDP."""
    data = open_base_set(decode(open_base_set_rows(cfg.base_set)))
    alone = Worker(rank=0, count=1, device=torch.device("cpu"))
    whole = pretrain(
        cfg.pretrainer,
        load_clip(cfg.backbone),
        data,
        alone,
        lambda _: [],
        lambda *_: None,
        lambda *_: None,
        save_every=1000,
    )
    expected = whole.model.teacher.state_dict()
    got = load_file(teacher.local_dir() / "teacher.safetensors")
    assert got.keys() == expected.keys()
    for name, weight in got.items():
        # Sums over rows are taken in another order; Adam enlarges the difference.
        assert torch.allclose(weight, expected[name], atol=1e-4), name


@pytest.mark.parametrize("recipe", ["tiny", "clip_b16", "clip_l14"])
def test_every_recipe_loads(recipe: str) -> None:
    path = ROOT / "jobs" / "recipes" / f"{recipe}.yaml"
    cfg = auto_cli(job.PretrainConfig, args=["--config", str(path)], as_positional=False)
    assert cfg.pretrainer.batch_size % cfg.workers == 0


def test_the_released_recipe_is_the_default() -> None:
    path = ROOT / "jobs" / "recipes" / "clip_b16.yaml"
    cfg = auto_cli(job.PretrainConfig, args=["--config", str(path)], as_positional=False)
    assert cfg.pretrainer == PretrainerConfig()


@pytest.mark.parametrize(
    ("batch_size", "said"),
    [
        (5, r"batch_size: 5; allowed: a multiple of workers \(2\), from 4 to 18"),
        (20, r"batch_size: 20; allowed: .* from 4 to 18"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(
    cfg: job.PretrainConfig, batch_size: int, said: str
) -> None:
    bad = dataclasses.replace(cfg, pretrainer=dataclasses.replace(CONFIG, batch_size=batch_size))
    with pytest.raises(ConfigError, match=said):
        job.pretrain(bad)
