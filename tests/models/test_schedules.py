"""Ends and middles of the schedules."""

import pytest

from models.schedules import cosine, linear


def test_cosine_starts_ends_and_stays() -> None:
    assert cosine(2.0, 1.0, 0, 10) == 2.0
    assert cosine(2.0, 1.0, 5, 10) == pytest.approx(1.5)
    assert cosine(2.0, 1.0, 10, 10) == cosine(2.0, 1.0, 99, 10) == 1.0


def test_linear_starts_ends_and_stays() -> None:
    assert linear(0.04, 0.07, 0, 30) == 0.04
    assert linear(0.04, 0.07, 10, 30) == pytest.approx(0.05)
    assert linear(0.04, 0.07, 30, 30) == linear(0.04, 0.07, 31, 30) == 0.07


def test_no_steps_is_the_end() -> None:
    assert linear(0.04, 0.07, 0, 0) == 0.07
