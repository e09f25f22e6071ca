"""Which classes a method gets wrong, and what it takes them for."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cluster.catalog.names import told_apart


class Confusion(NamedTuple):
    """Test images of one class that one method gave one answer, of one or several seeds."""

    dataset: str
    method: str
    shots: int
    label_space: str
    label: int
    """Of the class; `class_name` is its name, which other classes may have, too."""
    class_name: str
    predicted_label: int
    predicted: str
    images: int


@dataclass(frozen=True)
class ClassScore:
    """One class, all seeds together."""

    dataset: str
    method: str
    shots: int
    label_space: str
    label: int
    class_name: str
    """With the label beside it if another class of the dataset has the name."""
    images: int
    """Test images, once for each seed."""
    accuracy: float
    taken_for: str
    """The most frequent wrong answer; empty if there is none."""
    taken: int
    """How often."""


def class_scores(confusions: Iterable[Confusion]) -> list[ClassScore]:
    """Every class of every cell, in the order of the confusions."""
    answers: dict[tuple[str, str, int, str, int], Counter[int]] = defaultdict(Counter)
    names: dict[str, dict[int, str]] = defaultdict(dict)
    for confusion in confusions:
        answers[confusion[:5]][confusion.predicted_label] += confusion.images
        names[confusion.dataset][confusion.label] = confusion.class_name
        names[confusion.dataset][confusion.predicted_label] = confusion.predicted
    shown = {dataset: told_apart(of_dataset) for dataset, of_dataset in names.items()}
    scores = []
    for cell, counts in answers.items():
        dataset, label = cell[0], cell[-1]
        wrong = Counter({answer: n for answer, n in counts.items() if answer != label})
        ((answer, taken),) = wrong.most_common(1) or [(label, 0)]
        taken_for = shown[dataset][answer] if taken else ""
        images = counts.total()
        right = counts[label] / images
        scores.append(ClassScore(*cell, shown[dataset][label], images, right, taken_for, taken))
    return scores


def hardest_classes(
    scores: Iterable[ClassScore], method: str, shots: int, count: int
) -> list[ClassScore]:
    """Those of one method with these shots that it gets wrong most often, the worst first."""
    cells = [score for score in scores if (score.method, score.shots) == (method, shots)]
    return sorted(cells, key=lambda score: score.accuracy)[:count]
