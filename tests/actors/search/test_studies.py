import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from actors.search.cells import MethodConfig, declared_cells
from actors.search.searcher import CellSearcher
from actors.search.spaces import Choice, Range
from actors.search.studies import NUMBER, CellStudy, open_studies
from actors.search.trials import Outcome
from cluster.errors import ConfigError

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


def studies(
    place: Path | str,
    kept: dict[str, list[int]] | None = None,
    population: int = 3,
    config: MethodConfig = CONFIG,
) -> list[CellStudy]:
    """place: folder of a journal, or URL of a database."""
    cells = list(declared_cells(["toys"], {"m": config}, {}))
    url = place if isinstance(place, str) else str(place / "journal")
    return open_studies(cells, SEEDS, kept or {}, url, "search", 4, population)


def outcome(value: float | None, state: str = "complete", **others: Any) -> dict[str, Any]:
    told = Outcome(state, value, 1.0, {10: value} if value else {}, 1.0, 1.0, 2)
    return asdict(replace(told, **others))


def report(config: dict[str, Any]) -> dict[str, Any]:
    """What a population would report at its end: a function of its members' values."""
    tried = [member["values"] for member in config["members"]]
    scores = [-abs(v["adapter_lr"] - 1e-3) * 100 - v["steps"] / 1000 for v in tried]
    return {"outcomes": [outcome(score) for score in scores]}


def numbers(handed: list[dict[str, Any]], study: CellStudy) -> list[list[int]]:
    """Of the populations of a cell."""
    own = [config["members"] for config in handed if config["cell"] == study.cell.key]
    return [[m[NUMBER] for m in members] for members in own if members[0][NUMBER] is not None]


def run(place: Path | str, order: random.Random, stop_after: int = 1000) -> list[dict[str, Any]]:
    """Up to three populations at once, ending in any order; after some the driver dies."""
    searcher, ended = CellSearcher(studies(place), lambda _: None), 0
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


def tried(place: Path | str) -> list[dict[int, dict[str, Any]]]:
    return [{n: t.params for n, t in sorted(s.trials.items())} for s in studies(place)]


def test_the_order_in_which_trials_end_changes_nothing(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        run(tmp_path / str(number), random.Random(number))
    first, second = tried(tmp_path / "0"), tried(tmp_path / "1")
    assert first == second
    assert [list(trials) for trials in first] == [list(range(CONFIG.trials))] * 2


@pytest.mark.parametrize("kill", [1, 5, 13])
def test_a_killed_search_goes_on_and_ends_as_an_unbroken_one(tmp_path: Path, kill: int) -> None:
    for name in ("broken", "whole"):
        (tmp_path / name).mkdir()
    run(tmp_path / "broken", random.Random(kill), stop_after=kill)
    before = studies(tmp_path / "broken")
    finished = [set(study.trials) for study in before]
    again = run(tmp_path / "broken", random.Random(0))
    run(tmp_path / "whole", random.Random(0))
    assert tried(tmp_path / "broken") == tried(tmp_path / "whole")
    for study, done in zip(before, finished, strict=True):
        assert not done.intersection(n for members in numbers(again, study) for n in members)


def test_a_population_that_was_stored_in_part_is_trained_again_as_a_whole(tmp_path: Path) -> None:
    study, _ = studies(tmp_path)
    config = study.next_config()
    assert config
    first = outcome(0.5, cpu_s=7.0)
    study.store(0, config["members"][0]["values"], first)  # and here the driver dies
    again, _ = studies(tmp_path)
    assert again.next_config() == config
    for member in config["members"]:
        again.store(member[NUMBER], member["values"], outcome(0.1))
    assert [t.user_attrs["cpu_s"] for _, t in sorted(again.trials.items())] == [7.0, 1.0, 1.0]
    assert again.at_once == 1


def test_a_generation_is_handed_out_in_populations_of_the_size_asked_for(tmp_path: Path) -> None:
    searcher = CellSearcher(studies(tmp_path), lambda _: None)
    first, _ = searcher.studies
    assert first.at_once == 2
    handed = [searcher.suggest(str(i)) for i in range(5)]
    assert numbers(handed[:4], first) == [[0, 1, 2], [3]]
    assert handed[4] is None, "the next generation knows this one"
    whole, _ = studies(tmp_path, population=100)
    assert numbers([whole.next_config() or {}], whole) == [[0, 1, 2, 3]]


def test_no_generation_begins_once_the_seconds_are_spent(tmp_path: Path) -> None:
    config = replace(CONFIG, shots=[4], seconds=3.5)
    done: list[tuple[int, int]] = []
    (study,) = studies(tmp_path, population=4, config=config)
    searcher = CellSearcher([study], lambda s: done.append((s.total, s.remaining)))
    while (handed := searcher.suggest("now")) != Searcher.FINISHED:
        searcher.on_trial_complete("now", report(handed))
    assert list(study.trials) == [0, 1, 2, 3]
    assert done[0] == (14, 13)
    assert done[-1] == (6, 0), "four trials, two fits"
    (again,) = studies(tmp_path, population=4, config=config)
    assert again.planned == 4


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
    assert all(config["members"][0][NUMBER] is None for config in left[:2])
    assert left[2] is None


def test_the_declared_values_come_first(tmp_path: Path) -> None:
    study, _ = studies(tmp_path)
    values = study.values(0)
    assert values["adapter_lr"] == study.cell.hyper.adapter_lr
    assert values["steps"] == study.cell.hyper.steps
    assert values["precision"] in ("fp32", "bf16")  # "auto", the default, is not in the space
    study.cell.with_values(values)


def test_other_results_of_the_first_generation_lead_to_other_proposals(tmp_path: Path) -> None:
    """And they lead where the results were better."""
    proposed: list[list[dict[str, Any]]] = []
    for sign in (1, -1):
        (tmp_path / str(sign)).mkdir()
        study, _ = studies(tmp_path / str(sign))
        for number in range(8):
            values = study.values(number)
            study.store(number, values, outcome(0.5 + sign * values["steps"] / 1000))
        proposed.append([study.values(number) for number in range(12)])
    many, few = proposed
    assert many[:4] == few[:4]
    for generation in (slice(4, 8), slice(8, 12)):
        pairs = zip(many[generation], few[generation], strict=True)
        assert all(one != other for one, other in pairs)
    assert sum(v["steps"] for v in many[4:]) > sum(v["steps"] for v in few[4:])


def test_a_search_none_of_whose_trials_could_be_fitted_ends_with_the_reason(tmp_path: Path) -> None:
    (study,) = studies(tmp_path, config=replace(CONFIG, shots=[1]), population=4)
    searcher = CellSearcher([study], lambda _: None)
    while (config := searcher.suggest("now")) != Searcher.FINISHED:
        broken = [outcome(None, "fail", error="head is not finite") for _ in config["members"]]
        searcher.on_trial_complete("now", {"outcomes": broken})
    assert "all trials of toys-1shot-m failed" in (searcher.refusal or "")


def test_the_median_rule_looks_at_earlier_generations_only(tmp_path: Path) -> None:
    study, _ = studies(tmp_path)
    for number, value in enumerate([0.1, 0.2, 0.3, 0.4, 0.9]):
        study.store(number, study.values(number), outcome(value))
    assert study.medians(5) == {10: 0.25}
    assert study.medians(3) == {}
    config = study.next_config()
    assert config
    assert config["medians"] == [[10, 0.25]]


def test_failed_and_stopped_trials_never_win(tmp_path: Path) -> None:
    study, _ = studies(tmp_path)
    study.store(0, study.values(0), outcome(None, "fail", error="LinAlgError: no"))
    study.store(1, study.values(1), outcome(0.9, "pruned"))
    assert study.best is None
    expected = (
        r"^methods.m.space: all trials of toys-1shot-m failed, the first with 'LinAlgError: no'"
    )
    with pytest.raises(ConfigError, match=expected):
        study.winner()
    for number, loss in ((2, 0.7), (3, 0.5)):
        study.store(number, study.values(number), outcome(0.2, val_loss=loss))
    assert study.best is study.trials[3]
