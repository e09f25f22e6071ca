"""Which classes a method gets wrong, and what it takes them for."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Confusion(NamedTuple):
    """Test images of one class that one method gave one answer, of one or several seeds."""

    dataset: str
    method: str
    shots: int
    label_space: str
    class_name: str
    predicted: str
    images: int


@dataclass(frozen=True)
class ClassScore:
    """One class, all seeds together."""

    dataset: str
    method: str
    shots: int
    label_space: str
    class_name: str
    images: int
    """Test images, once for each seed."""
    accuracy: float
    taken_for: str
    """The most frequent wrong answer; empty if there is none."""
    taken: int
    """How often."""


def class_scores(confusions: Iterable[Confusion]) -> list[ClassScore]:
    """Every class of every cell, in the order of the confusions."""
    answers: dict[tuple[str, str, int, str, str], Counter[str]] = defaultdict(Counter)
    for confusion in confusions:
        answers[confusion[:5]][confusion.predicted] += confusion.images
    scores = []
    for cell, counts in answers.items():
        class_name = cell[-1]
        wrong = Counter({name: n for name, n in counts.items() if name != class_name})
        ((taken_for, taken),) = wrong.most_common(1) or [("", 0)]
        images = counts.total()
        right = counts[class_name] / images
        scores.append(ClassScore(*cell, images, right, taken_for, taken))
    return scores


def hardest_classes(
    scores: Iterable[ClassScore], method: str, shots: int, count: int
) -> list[ClassScore]:
    """Those of one method with these shots that it gets wrong most often, the worst first."""
    cells = [score for score in scores if (score.method, score.shots) == (method, shots)]
    return sorted(cells, key=lambda score: score.accuracy)[:count]
