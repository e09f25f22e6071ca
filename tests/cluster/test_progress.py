import re
from pathlib import Path

import pytest

from cluster.artifacts import draft
from cluster.progress import _Bar, already_done, show_progress


def test_a_log_gets_few_lines_and_a_closing_one(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("paint", total=100, unit="images") as progress:
        for _ in range(100):
            progress.advance(loss=0.25)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("paint: 1/100 images, ")
    assert " left, loss 0.25" in lines[0]
    assert re.fullmatch(r"paint: 100 images in \d+ s \(.* images/s, loss 0.25\)", lines[1])


def test_work_of_an_earlier_run_does_not_count_for_the_rate() -> None:
    with show_progress("paint", total=100, unit="images", done=90) as progress:
        progress.advance(10)
    assert progress.done == 100
    assert progress.rate() * progress.seconds() == pytest.approx(10, rel=0.5)


def test_more_than_the_total_is_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("paint", total=100, unit="images", done=98) as progress:
        progress.advance(30)
        progress.advance(-40)  # lost with a node
        assert progress.done == 60
        progress.advance(64)
    assert capsys.readouterr().err.splitlines()[-1].startswith("paint: 100 images in ")
    with show_progress("paint", total=100, unit="images", done=130) as progress:
        assert progress.done == 100
    assert "130" not in capsys.readouterr().err


def test_the_closing_line_of_a_stage_that_failed_is_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(RuntimeError), show_progress("paint", total=2, unit="images"):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("COLUMNS", "200")
    with show_progress("paint", total=2, unit="images") as progress:
        progress.advance(2, loss=0.25)
    assert isinstance(progress, _Bar)
    assert "loss 0.25" in capsys.readouterr().err


def test_a_stage_that_was_done_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_draft = draft(str(tmp_path), "factors", "toy", config={}, inputs={})
    already_done("paint", toy_draft.publish({}))
    assert capsys.readouterr().err == f"paint: done before ({toy_draft.uri})\n"
