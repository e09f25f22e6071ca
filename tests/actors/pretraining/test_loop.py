"""The worker's loop, called plainly: restarts, worker counts, bad steps."""

import dataclasses
import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.pictures.base_set import BaseSet, BaseSetRows, open_base_set
from actors.pretraining.config import LocalCrops, PretrainerConfig
from actors.pretraining.loop import Calls, DivergedError, new_state, pretrain, schedule
from actors.pretraining.shares import Share, Worker, draw_share, epoch_rows
from actors.pretraining.state import (
    Metrics,
    TrainState,
    read_checkpoint,
    write_checkpoint,
    write_teacher,
)
from models.backbones import load_clip
from models.clip import Clip
from models.moment_adapter import load_teacher
from models.moment_dino import BranchOutput, MomentDino
from tests.actors.small_base_set import CONFIG, write_base_set, write_clip

ALONE = Worker(rank=0, count=1, device=torch.device("cpu"))


class KilledError(Exception):
    """As good as a SIGKILL to the loop: nothing after it runs."""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Clip, BaseSet]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return load_clip(write_clip(tmp_path)), open_base_set(BaseSetRows(write_base_set(tmp_path)))


def run(
    parts: tuple[Clip, BaseSet],
    folder: Path,
    cfg: PretrainerConfig = CONFIG,
    save_every: int = 1000,
    last_step: float = math.inf,
) -> TrainState:
    """One process, checkpoints in `folder`; raises KilledError in the step after `last_step`."""

    def start(state: TrainState) -> list[Metrics]:
        return read_checkpoint(folder, state) if folder.exists() else []

    def save(state: TrainState, metrics: list[Metrics]) -> None:
        write_checkpoint(folder, state, metrics, rank=0)
        write_teacher(folder, state, parts[0], rank=0)

    def tell(state: TrainState, row: Metrics) -> None:
        if state.step > last_step:
            raise KilledError

    calls = Calls(start=start, save=save, save_every=save_every, tell=tell)
    return pretrain(cfg, *parts, ALONE, calls)


def metrics(folder: Path) -> list[str]:
    """Rows of metrics without their speed."""
    return [line.split(', "images_per_s"')[0] for line in open(folder / "metrics.jsonl")]


def test_a_broken_run_ends_as_an_unbroken_one(parts: tuple[Clip, BaseSet], tmp_path: Path) -> None:
    """Broken in mid-epoch, two steps after a checkpoint: no digit differs."""
    whole = run(parts, tmp_path / "whole")
    with pytest.raises(KilledError):
        run(parts, tmp_path / "broken", save_every=5, last_step=7)
    broken = run(parts, tmp_path / "broken")
    assert broken.step == whole.step == 12
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, broken.model.state_dict()[name]), name
    assert metrics(tmp_path / "broken") == metrics(tmp_path / "whole")


def test_training_brings_the_student_to_a_teacher_that_stands_still(
    parts: tuple[Clip, BaseSet], tmp_path: Path
) -> None:
    cfg = dataclasses.replace(
        CONFIG,
        model=dataclasses.replace(CONFIG.model, centering="none"),
        epochs=10,
        lr=5e-3,
        lr_end=5e-3,
        teacher_momentum=1.0,
        teacher_temperature=0.07,
        frozen_epochs=0.0,
    )
    rows: list[Metrics] = []
    calls = Calls(start=lambda _: rows, save=lambda *_: None, save_every=1000)
    pretrain(cfg, *parts, ALONE, calls)
    losses = [row["loss"] for row in rows]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("workers", [2, 3])
def test_a_batch_is_the_same_on_any_number_of_workers(
    parts: tuple[Clip, BaseSet], workers: int
) -> None:
    """Also where they do not divide it, and with local crops."""
    clip, data = parts
    cfg = dataclasses.replace(CONFIG, batch_size=8, local=LocalCrops(count=3, size=8))
    whole = draw_share(cfg, data, clip, ALONE, step=1)
    shares = [
        draw_share(cfg, data, clip, Worker(rank, workers, torch.device("cpu")), step=1)
        for rank in range(workers)
    ]
    assert sum(share.weight for share in shares) == pytest.approx(workers)
    for name, axis, views in (
        ("crops", 0, 2),
        ("masks", 0, 2),
        ("drop_path", 2, 5),
        ("local", 0, 3),
    ):
        by_view = getattr(whole, name).movedim(axis, 0).unflatten(0, (views, -1))
        for rank, share in enumerate(shares):
            mine = getattr(share, name).movedim(axis, 0).unflatten(0, (views, -1))
            assert torch.allclose(by_view[:, rank::workers], mine, atol=1e-6), name


def test_images_of_the_next_two_steps_are_decoded_meanwhile(parts: tuple[Clip, BaseSet]) -> None:
    """In other threads, across the end of an epoch, too, and none after the last step."""
    clip, data = parts
    threads: list[str] = []

    def decode(numbers: Sequence[int]) -> list[np.ndarray | None]:
        threads.extend([threading.current_thread().name] * len(numbers))
        return data.decode(numbers)

    watched = BaseSet(data.captions, data.starts, data.size, decode)
    for step, captions in ((3, 3 * 4), (10, 4 + 4), (11, 0)):
        threads.clear()
        draw_share(CONFIG, watched, clip, ALONE, step)
        watched.draw([0], f"asked for last, after {step}", (2, 1))
        assert len(threads) == 2 * (captions + 1)
        assert threading.current_thread().name not in threads


def test_an_epoch_shows_every_row_once() -> None:
    rows = epoch_rows(0, 3, 11, 4)
    assert rows.shape == (2, 4)
    assert len(set(rows.flatten().tolist())) == 8
    assert (rows != epoch_rows(0, 4, 11, 4)).any()
    with pytest.raises(ValueError, match="batch_size: 12; allowed is at most 11"):
        epoch_rows(0, 0, 11, 12)


def test_prototypes_stand_still_in_the_first_epoch(
    parts: tuple[Clip, BaseSet], tmp_path: Path
) -> None:
    cfg = dataclasses.replace(CONFIG, epochs=1)
    student = run(parts, tmp_path / "run", cfg).model.student
    assert schedule(cfg, 0, 4).prototypes_lr == 0.0
    with torch.random.fork_rng():
        torch.manual_seed(cfg.seed)
        fresh = MomentDino(parts[0], cfg.model).student
    before, after = fresh.state_dict(), student.state_dict()
    name = "dino_head.last_layer.weight_v"
    assert torch.equal(before[name], after[name])
    assert not torch.equal(before["dino_head.mlp.0.weight"], after["dino_head.mlp.0.weight"])


def test_a_step_that_is_not_finite_is_skipped_and_counted(
    parts: tuple[Clip, BaseSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {3, 6})
    state = run(parts, tmp_path / "run")
    assert (state.step, state.skipped, state.skipped_in_a_row) == (12, 2, 0)
    assert all(weight.isfinite().all() for weight in state.model.state_dict().values())


def test_too_many_bad_steps_end_the_run_with_a_good_checkpoint(
    parts: tuple[Clip, BaseSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, set(range(4, 100)))
    cfg = dataclasses.replace(CONFIG, max_skipped=3)
    with pytest.raises(DivergedError, match="4 steps not finite, up to 8"):
        run(parts, tmp_path / "run", cfg, save_every=4)
    teacher = load_teacher(tmp_path / "run")
    assert all(weight.isfinite().all() for weight in teacher.adapter_state.values())
    assert teacher.model["steps"] == 4


def test_the_teacher_can_be_loaded_and_names_its_backbone(
    parts: tuple[Clip, BaseSet], tmp_path: Path
) -> None:
    state = run(parts, tmp_path / "run")
    teacher = load_teacher(tmp_path / "run")
    weights = state.model.teacher.adapter.state_dict()
    assert weights.keys() == teacher.adapter_state.keys()
    assert all(torch.equal(weights[name], teacher.adapter_state[name]) for name in weights)
    assert teacher.model["weights_hash"] == parts[0].weights_hash


@pytest.mark.parametrize(
    ("how", "tolerance"),
    [
        (dataclasses.replace(CONFIG, recompute=True, local=LocalCrops(count=1, size=8)), 1e-6),
        pytest.param(dataclasses.replace(CONFIG, compile=True), 0.05, marks=pytest.mark.long),
    ],
)
def test_other_ways_to_compute_end_with_the_same_weights(
    parts: tuple[Clip, BaseSet], tmp_path: Path, how: PretrainerConfig, tolerance: float
) -> None:
    """Relative to how far the plain run moved its student; Adam enlarges what kernels round."""
    plain, other = (
        dataclasses.replace(cfg, epochs=1, frozen_epochs=0.0)
        for cfg in (dataclasses.replace(how, recompute=False, compile=False), how)
    )
    fresh = new_state(plain, parts[0], ALONE).model.student.state_dict()
    expected = run(parts, tmp_path / "plain", plain).model.student.state_dict()
    weights = run(parts, tmp_path / "other", other).model.student.state_dict()
    off = sum((weights[name] - weight).square().sum() for name, weight in expected.items())
    way = sum((fresh[name] - weight).square().sum() for name, weight in expected.items())
    assert way > 0
    assert off < tolerance**2 * way


def test_float16_skips_what_overflows_and_halves_its_scale(
    parts: tuple[Clip, BaseSet], tmp_path: Path
) -> None:
    cfg = dataclasses.replace(CONFIG, precision="fp16")
    state = run(parts, tmp_path / "run", cfg)
    assert 0 < state.skipped < 8
    assert state.scaler.get_scale() == 2.0 ** (10 - state.skipped)
    assert all(weight.isfinite().all() for weight in state.model.state_dict().values())
    again = new_state(cfg, parts[0], ALONE)
    read_checkpoint(tmp_path / "run", again)
    assert again.scaler.get_scale() == state.scaler.get_scale()


def test_local_crops_are_compared_with_both_views_of_the_teacher(
    parts: tuple[Clip, BaseSet],
) -> None:
    """The loss of 2 whole and 2 local views is the mean over the six pairs that differ."""
    cfg = dataclasses.replace(CONFIG, local=LocalCrops(count=2, size=8))
    share = draw_share(cfg, parts[1], parts[0], ALONE, step=0)
    model = new_state(cfg, parts[0], ALONE).model
    students: list[BranchOutput] = []
    model.student.register_forward_hook(lambda branch, inputs, outputs: students.append(outputs))
    step = model(parts[0], share.crops, share.masks, 0.05, share.drop_path, share.local)
    logits = students[0].dino.unflatten(0, (4, -1))
    targets = (step.teacher.dino / 0.05).softmax(dim=-1).unflatten(0, (2, -1))
    pairs = [
        -(targets[t] * (logits[s] / 0.1).log_softmax(dim=-1)).sum(dim=-1).mean()
        for t in range(2)
        for s in range(4)
        if s != t
    ]
    assert len(pairs) == 6
    assert step.dino.item() == pytest.approx(sum(pairs).item() / 6, rel=1e-5)


def spoil(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Makes the images of these steps NaN, as a broken sensor or file would."""

    def spoilt(
        cfg: PretrainerConfig, data: BaseSet, backbone: Clip, worker: Worker, step: int
    ) -> Share:
        share = draw_share(cfg, data, backbone, worker, step)
        bad = math.nan if step in steps else 1.0
        return dataclasses.replace(share, crops=share.crops * bad)

    monkeypatch.setattr("actors.pretraining.loop.draw_share", spoilt)
