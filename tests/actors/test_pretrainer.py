"""The worker's loop, called plainly: restarts, worker counts, bad steps."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from actors.base_set import BaseSet, BaseSetRows, decode, open_base_set
from actors.pretrain_state import (
    Figures,
    TrainState,
    read_checkpoint,
    write_checkpoint,
    write_teacher,
)
from actors.pretrainer import (
    DivergedError,
    PretrainerConfig,
    Worker,
    draw_batch,
    epoch_rows,
    pretrain,
    schedule,
)
from models.clip import Clip, load_clip
from models.moment_adapter import load_teacher
from models.moment_dino import MomentDino
from tests.actors.small_base_set import CONFIG, write_base_set, write_clip

ALONE = Worker(rank=0, count=1, device=torch.device("cpu"))


class KilledError(Exception):
    """As good as a SIGKILL to the loop: nothing after it runs."""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Clip, BaseSet]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return load_clip(write_clip(tmp_path)), open_base_set(
        decode(BaseSetRows(write_base_set(tmp_path)))
    )


def run(
    parts: tuple[Clip, BaseSet],
    folder: Path,
    cfg: PretrainerConfig = CONFIG,
    save_every: int = 1000,
    last_step: float = math.inf,
) -> TrainState:
    """One process, checkpoints in `folder`; raises KilledError in the step after `last_step`."""

    def start(state: TrainState) -> list[Figures]:
        return read_checkpoint(folder, state) if folder.exists() else []

    def save(state: TrainState, metrics: list[Figures]) -> None:
        write_checkpoint(folder, state, metrics, rank=0)
        write_teacher(folder, state, parts[0], rank=0)

    def tell(state: TrainState, row: Figures) -> None:
        if state.step > last_step:
            raise KilledError

    return pretrain(cfg, *parts, ALONE, start, save, tell, save_every)


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
    rows: list[Figures] = []
    pretrain(cfg, *parts, ALONE, lambda _: rows, lambda *_: None, lambda *_: None, 1000)
    losses = [row["loss"] for row in rows]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_batch_is_the_same_on_any_number_of_workers(parts: tuple[Clip, BaseSet]) -> None:
    clip, data = parts
    whole = draw_batch(CONFIG, data, clip, ALONE, step=5)
    shares = [
        draw_batch(CONFIG, data, clip, Worker(rank, 2, torch.device("cpu")), step=5)
        for rank in (0, 1)
    ]
    for number, axis in ((0, 0), (1, 0), (2, 2)):  # crops, masks, drop path
        all_rows = whole[number].movedim(axis, 0).unflatten(0, (2, -1))
        for rank, share in enumerate(shares):
            mine = share[number].movedim(axis, 0).unflatten(0, (2, -1))
            assert torch.allclose(all_rows[:, rank::2], mine, atol=1e-6)


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
    own = state.model.teacher.adapter.state_dict()
    assert own.keys() == teacher.adapter_state.keys()
    assert all(torch.equal(own[name], teacher.adapter_state[name]) for name in own)
    assert teacher.model["weights_hash"] == parts[0].weights_hash


def spoil(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Makes the images of these steps NaN, as a broken sensor or file would."""

    def spoilt(
        cfg: PretrainerConfig, data: BaseSet, backbone: Clip, worker: Worker, step: int
    ) -> tuple[torch.Tensor, ...]:
        crops, masks, kept = draw_batch(cfg, data, backbone, worker, step)
        return (crops * math.nan if step in steps else crops), masks, kept

    monkeypatch.setattr("actors.pretrainer.draw_batch", spoilt)
