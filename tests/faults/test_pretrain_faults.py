"""Pretraining that loses its driver, a worker, a node, or its numbers."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from ray.cluster_utils import Cluster
from safetensors.torch import load_file
from torch import Tensor

from actors.pictures.base_set import open_base_set, open_base_set_rows
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.loop import Calls, new_state, pretrain
from actors.pretraining.shares import Worker
from actors.pretraining.state import (
    METRICS,
    TEACHER,
    Metrics,
    TrainState,
    read_checkpoint,
    write_checkpoint,
    write_teacher,
)
from cluster.artifacts import Artifact, open_artifact
from cluster.content import plain
from cluster.errors import ConfigError
from cluster.pool import Pool
from jobs.pretrain import PretrainConfig
from jobs.pretrain import pretrain as pretrain_job
from models.backbones import load_clip
from tests.actors.small_base_set import CONFIG, write_base_set, write_clip
from tests.noted_pool import RefusingPool
from tests.processes import kill_worker, wait_until, workers_of

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
TRAINERS = ("ray::", "ray::RayTrainWorker")
"""What Ray calls a worker of Ray Train."""
IMPATIENT = """
import functools
import jobs.pretrain as job
from cluster.job import run_job

job.ScalingConfig = functools.partial(job.ScalingConfig, elastic_resize_monitor_interval_s=2)
run_job(job.PretrainConfig, job.pretrain)
"""
"""The job, but it looks for new nodes every two seconds, not every minute."""


@pytest.fixture(scope="module")
def cfg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PretrainConfig]:
    folder = tmp_path_factory.mktemp("pretrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield PretrainConfig(
            storage=str(folder),
            base_set=write_base_set(folder).uri,
            backbone=write_clip(folder),
            pool=Pool(workers=2),
            save_every=2,
            pretrainer=CONFIG,
        )


@pytest.fixture(scope="module")
def unbroken(cfg: PretrainConfig) -> dict[str, Tensor]:
    """What a run on two workers makes that nobody disturbs."""
    storage = Path(cfg.storage)
    return weights(finish(start(cfg, storage), storage))


def start(
    cfg: PretrainConfig, storage: Path, address: str = "local", program: str = ""
) -> subprocess.Popen[str]:
    """program: Python, instead of the job itself."""
    (storage / "cfg.yaml").write_text(
        yaml.safe_dump(plain(dataclasses.replace(cfg, storage=str(storage))))
    )
    job = ["-c", program] if program else ["-m", "jobs.pretrain"]
    return subprocess.Popen(
        [sys.executable, *job, "--config", str(storage / "cfg.yaml")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=(storage / "stderr").open("w"),
        text=True,
        env={**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)},
    )


def finish(run: subprocess.Popen[str], storage: Path) -> Artifact:
    """storage: as `start` was told."""
    out, _ = run.communicate(timeout=900)
    assert run.returncode == 0, (storage / "stderr").read_text()[-5000:]
    return open_artifact(json.loads(out.splitlines()[-1])["artifact"], "teacher")


def weights(teacher: Artifact) -> dict[str, Tensor]:
    return load_file(teacher.local_dir() / "teacher.safetensors")


def metrics(teacher: Artifact) -> list[dict[str, float]]:
    lines = (teacher.local_dir() / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def checkpoints(storage: Path) -> list[Path]:
    """The unfinished run's checkpoints that Ray Train knows of, oldest first.

    One that lies there but is not in its list yet is lost with its worker.
    """
    lists = [path.read_text() for path in storage.glob("teacher/*/work/run/*_snapshot.json")]
    files = written(storage)
    return [path for path in files if any(path.parent.name in known for known in lists)]


def written(storage: Path) -> list[Path]:
    """The unfinished run's checkpoints that its workers have written, oldest first."""
    return sorted(storage.glob("teacher/*/work/run/checkpoint_*/metrics.jsonl"))


def in_one_process(cfg: PretrainConfig) -> dict[str, Tensor]:
    """The teacher as trained in one go in this process, without FSDP."""
    data = open_base_set(open_base_set_rows(cfg.base_set))
    alone = Worker(rank=0, count=1, device=torch.device("cpu"))
    calls = Calls(start=lambda _: [], save=lambda *_: None, save_every=10_000)
    state = pretrain(cfg.pretrainer, load_clip(cfg.backbone), data, alone, calls)
    return state.model.teacher.state_dict()


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def apart(found: dict[str, Tensor], expected: dict[str, Tensor], cfg: PretrainConfig) -> float:
    """Distance of two teachers over the way that the second one has come."""
    alone = Worker(rank=0, count=1, device=torch.device("cpu"))
    model = new_state(cfg.pretrainer, load_clip(cfg.backbone), alone).model
    fresh = model.teacher.state_dict()
    off = sum((found[name] - expected[name]).square().sum() for name in expected)
    way = sum((fresh[name] - expected[name]).square().sum() for name in expected)
    return float((off / way) ** 0.5)


def test_two_workers_train_what_one_process_does(
    cfg: PretrainConfig, unbroken: dict[str, Tensor]
) -> None:
    # Sums over rows are taken in another order; Adam enlarges the difference.
    assert apart(unbroken, in_one_process(cfg), cfg) < 0.02


def test_a_run_whose_driver_and_then_a_worker_is_killed_ends_with_the_same_bits(
    cfg: PretrainConfig, unbroken: dict[str, Tensor], tmp_path: Path
) -> None:
    """SIGKILL of the driver; and, in the run that goes on, of one of two FSDP workers after another
    checkpoint, whereupon Ray Train starts both anew."""
    first = start(cfg, tmp_path)
    wait_until(lambda: checkpoints(tmp_path), first)
    first.kill()
    first.wait()
    assert not list(tmp_path.glob("teacher/*/manifest.json")), "killed too late to tell anything"
    second = start(cfg, tmp_path)
    wait_until(lambda: len(workers_of(second, *TRAINERS)) == 2, second)
    before = written(tmp_path)  # all that the first run's orphans wrote
    wait_until(lambda: written(tmp_path)[-1:] > before[-1:], second)
    kill_worker(second, *TRAINERS)
    teacher = finish(second, tmp_path)
    assert_equal(weights(teacher), unbroken)
    assert [row["step"] for row in metrics(teacher)] == list(range(1, 13))
    assert not list(tmp_path.glob("teacher/*/work")), "checkpoints go once the teacher is there"


def test_a_run_that_loses_a_node_goes_on_with_one_worker_and_grows_again(
    cfg: PretrainConfig, tmp_path: Path
) -> None:
    """Two nodes with room for one worker each; three captions a step, so shares differ."""
    pretrainer = dataclasses.replace(cfg.pretrainer, epochs=150, batch_size=5)
    long = dataclasses.replace(
        cfg, storage=str(tmp_path), workers_min=1, save_every=20, pretrainer=pretrainer
    )
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    run = start(long, tmp_path, cluster.address, IMPATIENT)

    def trained_on(workers: int) -> bool:
        """Whether the latest checkpoint ends with steps of so many workers."""
        rows = checkpoints(tmp_path)
        last = rows[-1].read_text().splitlines() if rows else []
        return bool(last) and json.loads(last[-1])["workers"] == workers

    try:
        wait_until(lambda: trained_on(2), run)
        cluster.remove_node(second, allow_graceful=False)
        wait_until(lambda: trained_on(1), run)
        cluster.add_node(num_cpus=1)
        wait_until(lambda: trained_on(2), run)
        teacher = finish(run, tmp_path)
    finally:
        run.kill()
        cluster.shutdown()
    rows = metrics(teacher)
    assert [row["step"] for row in rows] == list(range(1, 451))
    assert [int(workers) for workers, _ in groupby(row["workers"] for row in rows)] == [2, 1, 2]
    assert apart(weights(teacher), in_one_process(long), long) < 0.05


class StoppedError(Exception):
    """As good as a SIGKILL to the loop: nothing after it runs."""


def some_steps(rank: int, cfg: PretrainConfig, workers: int, folder: Path, last_step: int) -> None:
    """One of so many processes; goes on from the checkpoint in the folder and leaves a new one."""
    meeting = folder.with_name(f"{workers} workers")
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=workers)
    backbone = load_clip(cfg.backbone)

    def tell(state: TrainState, row: Metrics) -> None:
        if state.step > last_step:
            raise StoppedError

    def save(state: TrainState, rows: list[Metrics]) -> None:
        write_checkpoint(folder, state, rows, rank)
        write_teacher(folder, state, backbone, rank)

    calls = Calls(
        start=lambda state: read_checkpoint(folder, state) if folder.exists() else [],
        save=save,
        save_every=4,
        tell=tell,
    )
    data = open_base_set(open_base_set_rows(cfg.base_set))
    worker = Worker(rank, workers, torch.device("cpu"))
    with contextlib.suppress(StoppedError):
        pretrain(cfg.pretrainer, backbone, data, worker, calls)
    dist.destroy_process_group()


def test_a_checkpoint_of_four_workers_goes_on_with_three_and_then_with_two(
    cfg: PretrainConfig, tmp_path: Path
) -> None:
    """Eight captions a step, so three workers have unequal shares."""
    cfg = dataclasses.replace(
        cfg, pretrainer=dataclasses.replace(cfg.pretrainer, epochs=6, batch_size=8)
    )
    for workers, last_step in ((4, 4), (3, 8), (2, 12)):
        args = (cfg, workers, tmp_path / "run", last_step)
        torch.multiprocessing.spawn(some_steps, args, nprocs=workers)
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [row["workers"] for row in rows] == [4] * 4 + [3] * 4 + [2] * 4
    assert apart(load_file(tmp_path / "run" / TEACHER), in_one_process(cfg), cfg) < 0.02


def test_a_run_that_diverges_says_so_and_leaves_its_last_good_checkpoint(
    cfg: PretrainConfig, tmp_path: Path
) -> None:
    wild: PretrainerConfig = dataclasses.replace(
        cfg.pretrainer, lr=1e-3, lr_end=1e38, epochs=20, max_skipped=3
    )
    run = start(dataclasses.replace(cfg, pool=Pool(workers=1), pretrainer=wild), tmp_path)
    run.communicate(timeout=600)
    said = (tmp_path / "stderr").read_text().splitlines()[-1]
    assert run.returncode == 2
    assert "more than 3 steps in a row were not finite, after step" in said
    left = load_file(checkpoints(tmp_path)[-1].with_name("teacher.safetensors"))
    assert all(weight.isfinite().all() for weight in left.values())


def test_what_a_worker_refuses_is_raised_as_it_is(
    cfg: PretrainConfig, tmp_path: Path, local_ray: None
) -> None:
    with pytest.raises(ConfigError, match=r"^pool\.cpus: 1; allowed on this node: none$"):
        pretrain_job(dataclasses.replace(cfg, storage=str(tmp_path), pool=RefusingPool(workers=1)))
