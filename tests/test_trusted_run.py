"""The tiny pretraining takes the steps that it took before, to all digits where they can be."""

import copy
import warnings

import pytest

from tests.trusted_run import (
    LOSS_TOLERANCE,
    STEPS,
    different_lines,
    different_losses,
    losses,
    origin,
    other_origin,
    read,
)


@pytest.mark.long
def test_a_hundred_losses_are_those_of_the_trusted_run() -> None:
    golden = read("losses")
    assert len(golden["losses"]) == STEPS
    if reason := other_origin(golden):
        warnings.warn(f"losses are compared to {LOSS_TOLERANCE} only: {reason}", stacklevel=1)
    assert different_losses(golden, losses()) == []


def test_a_last_digit_counts_where_the_golden_was_made_and_not_elsewhere() -> None:
    here = read("losses") | origin()
    moved = [loss * (1 + 1e-12) for loss in here["losses"]]
    assert len(different_losses(here, moved)) == STEPS
    elsewhere = copy.deepcopy(here)
    elsewhere["versions"]["torch"] = "1.0"
    assert other_origin(elsewhere) == f"torch {here['versions']['torch']}, not 1.0"
    assert different_losses(elsewhere, moved) == []
    wrong = [loss * (1 + 2 * LOSS_TOLERANCE) for loss in here["losses"]]
    assert len(different_losses(elsewhere, wrong)) == STEPS


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("food  fsnl  4  85.8 ± 2.7  79.4", True),
        ("food  fsnl  4  80.1 ± 9.9  79.4 ▼", True),
        ("food  fsnl  4  70.1 ± 2.7  79.4", False),
        ("food  fsnl  8  85.8 ± 2.7  79.4", False),
        ("food  fsnl  4  85.8 ± 2.7", False),
    ],
)
def test_tables_of_other_machines_differ_by_points_alone(line: str, near: bool) -> None:
    golden = origin() | {"table": ["food  fsnl  4  85.8 ± 2.7  79.4"]}
    assert (different_lines(golden, [line]) == []) == (line in golden["table"])
    golden["machine"] = golden["machine"] | {"cpu": "another"}
    assert (different_lines(golden, [line]) == []) == near
