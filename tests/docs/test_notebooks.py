"""The notebooks: they run, and say what the pages say they say."""

import json
import re
from pathlib import Path

import pytest

from tests.docs.notebook import NOTEBOOKS, run, texts

NUMBER = re.compile(r"\d+(\.\d+)?")
ROOTS = re.compile(r"/(tmp|home|root|work)\b")


def test_both_are_there() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"few_shot_on_a_folder", "unknown_names"}


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_its_page_shows(path: Path) -> None:
    """Another processor may change a digit, so numbers are compared by their place alone."""
    shown = json.loads(path.read_text("utf-8"))
    assert [words(text) for text in texts(run(path))] == [words(text) for text in texts(shown)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_no_path_of_a_machine(path: Path) -> None:
    shown = texts(json.loads(path.read_text("utf-8")))
    assert shown
    assert [text for text in shown if ROOTS.search(text)] == []


def words(text: str) -> list[str]:
    return NUMBER.sub("#", text).split()
