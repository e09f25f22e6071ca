"""What a search shows and notes while it goes on."""

from dataclasses import asdict
from pathlib import Path

import pytest

from actors.search.cells import MethodConfig, declared_cells
from actors.search.progress import progress_table, search_progress
from actors.search.spaces import Range
from actors.search.studies import CellStudy, open_studies
from actors.search.trials import Outcome
from cluster.artifacts import WORK

METHOD = MethodConfig(
    method="taskres", shots=[1, 4, 16], space={"lr": Range(low=1e-3, high=1.0)}, trials=2
)


def studies_of(folder: Path) -> list[CellStudy]:
    cells = list(declared_cells(["animals"], {"taskres": METHOD}, {}))
    return open_studies(cells, [0], {}, str(folder / "studies.journal"), "search", 2, 1)


def finish(study: CellStudy, accuracy: float) -> CellStudy:
    config = study.next_config()
    assert config
    outcome = Outcome("complete", accuracy, 1.0, {}, wall_s=0.1, cpu_s=0.1, population=1)
    (member,) = config["members"]
    study.store(member["number"], member["values"], asdict(outcome))
    return study


def test_rows_go_on_after_a_kill_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    first, second, _ = studies_of(tmp_path)
    with search_progress([first, second], str(tmp_path)) as on_done:
        on_done(finish(first, 0.25))
    with (tmp_path / WORK / "progress.jsonl").open("a") as file:
        file.write('\n{"time": "2026-')
    first, second, _ = studies_of(tmp_path)
    with search_progress([first, second], str(tmp_path)) as on_done:
        on_done(finish(first, 0.125))
        on_done(finish(second, 0.5))
    rows = progress_table(str(tmp_path)).to_pylist()
    found = [(row["cell"], row["done"], row["total"], row["best_val_accuracy"]) for row in rows]
    one, four = first.cell.key, second.cell.key
    assert found == [(one, 1, 2, 0.25), (one, 2, 2, 0.25), (four, 1, 2, 0.5)]


def test_a_terminal_shows_running_cells_first_and_no_more_than_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "8")
    first, second, third = studies_of(tmp_path)
    with search_progress([first, second, third], str(tmp_path)) as on_done:
        third.next_config()
        capsys.readouterr()
        on_done(finish(second, 0.5))
    shown = capsys.readouterr().err
    assert "search: 1/6 trials" in shown
    assert "cells 0/3 done, 1 running" in shown
    rows = [line for line in shown.splitlines() if "│" in line]
    assert third.cell.key in rows[0]
    assert first.cell.key in rows[1]
    assert "0/2" in rows[1]
    assert not any(second.cell.key in row for row in rows)
    assert "and 1 more" in shown
