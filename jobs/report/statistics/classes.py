"""Which classes a method gets wrong, and what it takes them for: from a table `confusion`."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from cluster.artifacts import Artifact

HARDEST = 12
"""Classes that a page shows."""


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


def class_scores(results: Artifact) -> list[ClassScore]:
    """Every class of every cell of a "results" artifact, in the order of its table."""
    answers: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    cell = ("dataset", "method", "shots", "label_space", "class_name")
    for row in results.read_table("confusion").to_pylist():
        answers[tuple(row[name] for name in cell)][row["predicted"]] += row["images"]
    scores = []
    for key, said in answers.items():
        wrong = Counter({name: n for name, n in said.items() if name != key[-1]})
        ((worst, times),) = wrong.most_common(1) or [("", 0)]
        dataset, method, shots, space, name = key
        total, right = said.total(), said[name]
        score = ClassScore(dataset, method, shots, space, name, total, right / total, worst, times)
        scores.append(score)
    return scores


def hardest_lines(scores: list[ClassScore], method: str, shots: int) -> list[list[str]]:
    """A header, then the HARDEST classes of one method with these shots, the worst first."""
    own = [s for s in scores if (s.method, s.shots) == (method, shots)]
    return [
        ["dataset", "class", "accuracy, %", "test images", "most often taken for", "times"],
        *(
            [s.dataset, s.class_name, f"{100 * s.accuracy:.1f}", str(s.images), s.taken_for,
             str(s.taken)]
            for s in sorted(own, key=lambda s: s.accuracy)[:HARDEST]
        ),
    ]  # fmt: skip
