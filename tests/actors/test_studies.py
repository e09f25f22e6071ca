import random
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from actors.cells import Choice, MethodConfig, Range, declared_cells
from actors.studies import NUMBER, CellSearcher, CellStudy, open_studies

CONFIG = MethodConfig(
    method="imaginefsl",
    shots=[1, 4],
    space={
        "adapter_lr": Range(low=1e-5, high=1e-2, log=True),
        "steps": Range(low=10, high=90),
        "precision": Choice(choices=["fp32", "bf16"]),
    },
    trials=12,
)
SEEDS = [0, 1, 2]


def studies(folder: Path, kept: dict[str, list[int]] | None = None) -> list[CellStudy]:
    cells = list(declared_cells(["toys"], {"m": CONFIG}, {}))
    return open_studies(cells, SEEDS, kept or {}, str(folder / "journal"), size=4)


def report(config: dict[str, Any]) -> dict[str, Any]:
    """What a trial would report at its end: a function of its values."""
    value = -abs(config["values"]["adapter_lr"] - 1e-3) * 100 - config["values"]["steps"] / 1000
    return {"final": True, "val_accuracy": value, "val_loss": 1.0, "wall_s": 1.0}


def run(folder: Path, order: random.Random, stop_after: int = 1000) -> list[dict[str, Any]]:
    """Up to three trials at once, ending in any order; `stop_after` results the driver dies."""
    searcher, ended = CellSearcher(studies(folder), lambda _: None), 0
    handed: list[dict[str, Any]] = []
    running: dict[str, dict[str, Any]] = {}
    while True:
        name = f"trial {len(handed)}"
        config = searcher.suggest(name) if len(running) < 3 else None
        if config == Searcher.FINISHED:
            return handed
        if config:
            handed.append(config)
            running[name] = config
            continue
        name = order.choice(sorted(running))
        searcher.on_trial_complete(name, report(running.pop(name)))
        ended += 1
        if ended == stop_after:
            return handed


def tried(folder: Path) -> list[dict[int, dict[str, Any]]]:
    return [{n: t.params for n, t in sorted(s.trials.items())} for s in studies(folder)]


def test_the_order_in_which_trials_end_changes_nothing(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        run(tmp_path / str(number), random.Random(number))
    first, second = tried(tmp_path / "0"), tried(tmp_path / "1")
    assert first == second
    assert [list(trials) for trials in first] == [list(range(CONFIG.trials))] * 2


@pytest.mark.parametrize("kill", [1, 7, 20])
def test_a_killed_search_goes_on_and_ends_as_an_unbroken_one(tmp_path: Path, kill: int) -> None:
    for name in ("broken", "whole"):
        (tmp_path / name).mkdir()
    run(tmp_path / "broken", random.Random(kill), stop_after=kill)
    finished = [dict(study.trials) for study in studies(tmp_path / "broken")]
    again = run(tmp_path / "broken", random.Random(0))
    run(tmp_path / "whole", random.Random(0))
    assert tried(tmp_path / "broken") == tried(tmp_path / "whole")
    repeated = [
        config
        for config in again
        for study, trials in zip(studies(tmp_path / "whole"), finished, strict=True)
        if config["cell"] == study.cell.key and config[NUMBER] in trials
    ]
    assert repeated == []


def test_cells_take_turns_and_only_missing_models_are_fitted(tmp_path: Path) -> None:
    first, second = studies(tmp_path)
    searcher = CellSearcher([first, second], lambda _: None)
    assert [searcher.suggest(str(i))["cell"] for i in range(4)] == [
        first.cell.key,
        second.cell.key,
    ] * 2
    run(tmp_path, random.Random(0))
    fits = CellSearcher(studies(tmp_path, {first.cell.key: [1, 2]}), lambda _: None)
    left = [fits.suggest(str(i)) for i in range(3)]
    assert [(config["cell"], config["seed"]) for config in left[:2]] == [
        (second.cell.key, 1),
        (second.cell.key, 2),
    ]
    assert all(config[NUMBER] is None for config in left[:2])
    assert left[2] is None


def test_the_declared_values_come_first(tmp_path: Path) -> None:
    study, _ = studies(tmp_path)
    values = study.values(0)
    assert values["adapter_lr"] == study.cell.hyper.adapter_lr
    assert values["steps"] == study.cell.hyper.steps
    assert values["precision"] in ("fp32", "bf16")  # "auto", the default, is not in the space
    study.cell.with_values(values)


def test_the_median_rule_looks_at_earlier_generations_only(tmp_path: Path) -> None:
    study, _ = studies(tmp_path)
    for number, value in enumerate([0.1, 0.2, 0.3, 0.4, 0.9]):
        values = study.values(number)
        last = {"final": True, "val_accuracy": value, "val_loss": 1.0}
        study.store(number, values, {10: value}, last)
    assert study.hopeless(5, step=10, value=0.24)
    assert not study.hopeless(5, step=10, value=0.26)
    assert not study.hopeless(5, step=20, value=0.0)
    assert not study.hopeless(3, step=10, value=0.0)


def test_failed_and_stopped_trials_never_win(tmp_path: Path) -> None:
    study, _ = studies(tmp_path)
    study.store(0, study.values(0), {}, {"final": True, "error": "ValueError: no"})
    study.store(1, study.values(1), {10: 0.9}, {"step": 10, "val_accuracy": 0.9})
    assert study.best is None
    with pytest.raises(RuntimeError, match="ValueError: no"):
        study.winner()
    for number, loss in ((2, 0.7), (3, 0.5)):
        last = {"final": True, "val_accuracy": 0.2, "val_loss": loss}
        study.store(number, study.values(number), {}, last)
    assert study.best is study.trials[3]
