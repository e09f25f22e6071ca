"""Scores of a class's pictures against each other: which lie far below the rest."""

import math

import numpy as np

DEVIATION = 1.4826
"""Standard deviation of normal values whose median absolute deviation is 1."""


def class_deviations(scores: np.ndarray, classes: np.ndarray, good: np.ndarray) -> np.ndarray:
    """(N,) float32: how many robust deviations a score lies above the median of its class.

    classes: (N,) int. Median and median absolute deviation are over the `good` rows, (N,) bool;
    where half of a class's scores are the same, which is no spread, the result is 0.
    A class that CLIP does not know has low scores, which are so compared with each other.
    """
    result = np.zeros(len(scores), dtype=np.float32)
    for members in _members(classes):
        known = scores[members][good[members]]
        if not len(known):
            continue
        median = np.median(known)
        spread = DEVIATION * np.median(np.abs(known - median))
        if spread > 0:
            result[members] = (scores[members] - median) / spread
    return result


def low_scores(
    deviation: np.ndarray, classes: np.ndarray, good: np.ndarray, *, below: float, left: float
) -> np.ndarray:
    """(N,) bool: `good` rows, (N,) bool, whose deviation is lower than -below.

    Of each class the lowest are taken, and no more than leave that share of all its rows.
    """
    low = np.zeros(len(deviation), dtype=bool)
    for members in _members(classes):
        bound = math.ceil(left * len(members) - 1e-9)
        room = max(int(good[members].sum()) - bound, 0)
        taken = members[good[members] & (deviation[members] < -below)]
        low[taken[np.argsort(deviation[taken], kind="stable")][:room]] = True
    return low


def _members(classes: np.ndarray) -> list[np.ndarray]:
    """The rows of each class."""
    by_class = np.argsort(classes, kind="stable")
    return np.split(by_class, np.flatnonzero(np.diff(classes[by_class])) + 1)
