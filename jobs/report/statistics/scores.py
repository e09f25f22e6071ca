"""Scores over seeds: means with intervals, H-mean, averages over datasets, generalisation."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import t as student_t

CONFIDENCE = 0.95
AVERAGE = "(average)"
"""Stands where a dataset's name does, for the mean over all datasets."""
H_MEAN = "H"
"""Stands where a label space does, for the H-mean of two of HALVES."""
HALVES = (("OOP", "IP"), ("base", "new"))
"""Label spaces that share a dataset's classes between them."""


class Score(NamedTuple):
    """One measured value of one model."""

    dataset: str
    method: str
    seed: int
    measure: str
    """Name in `actors.search.measures` or `actors.discovery.measures`."""
    label_space: str
    value: float
    """A share in [0, 1], or a number; the measure says which."""
    shots: int = 0
    split_hash: str = ""
    concepts: str = "all"
    """The classes that were learned."""


@dataclass(frozen=True)
class Estimate:
    """Mean of n values and half of their 95 % interval; one value has no interval."""

    mean: float
    half_width: float | None
    n: int

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.half_width is None else self.mean + self.half_width

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.half_width is not None and abs(self.mean) > self.half_width

    def text(self, scale: float = 100, signed: bool = False) -> str:
        """As tables show it, both numbers times the scale: "71.2 ± 3.4"."""
        mean = f"{scale * self.mean:{'+' if signed else ''}.1f}"
        return mean if self.half_width is None else f"{mean} ± {scale * self.half_width:.1f}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and Student's t interval: half width t(0.975, n - 1) · s / √n, s with n - 1.

    Raises ValueError without values.
    """
    n = len(values)
    if not n:
        raise ValueError("values: none; allowed: at least one")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return Estimate(mean, quantile * deviation / math.sqrt(n), n)


def h_mean(oop: float, ip: float) -> float:
    """2 · OOP · IP / (OOP + IP), 0 where both are 0. Source: LAION-Beyond."""
    return 2 * oop * ip / (oop + ip) if oop + ip else 0.0


class Summary(NamedTuple):
    """One measure of one method on one dataset with one number of shots, over seeds."""

    dataset: str
    method: str
    shots: int
    measure: str
    label_space: str
    estimate: Estimate


def summaries(scores: Iterable[Score]) -> list[Summary]:
    """Estimates over seeds, in order of first appearance."""
    groups: dict[tuple[str, str, int, str, str], list[float]] = defaultdict(list)
    for s in scores:
        groups[s.dataset, s.method, s.shots, s.measure, s.label_space].append(s.value)
    return [Summary(*key, estimate(values)) for key, values in groups.items()]


def with_h_mean(scores: Sequence[Score]) -> list[Score]:
    """The scores, and those of label space "H", of one model and seed each.

    H is the H-mean of OOP and IP, or of base and new classes.
    """
    models: dict[Score, dict[str, float]] = defaultdict(dict)
    for score in scores:
        models[score._replace(label_space=H_MEAN, value=0)][score.label_space] = score.value
    means = [
        model._replace(value=h_mean(values[one], values[other]))
        for model, values in models.items()
        for one, other in HALVES
        if {one, other} <= values.keys()
    ]
    return [*scores, *means]


def with_average(scores: Sequence[Score]) -> list[Score]:
    """The scores, and those of the mean over datasets, per measure, label space and seed.

    A mean is taken over all datasets that have the measure in the label space (digits have no IP
    classes), if they are more than one and each has been measured.
    """
    datasets: dict[tuple[str, str], set[str]] = defaultdict(set)
    groups: dict[Score, list[Score]] = defaultdict(list)
    for score in scores:
        datasets[score.measure, score.label_space].add(score.dataset)
        groups[score._replace(dataset=AVERAGE, value=0, split_hash="")].append(score)
    means = [
        key._replace(value=math.fsum(score.value for score in group) / len(group))
        for key, group in groups.items()
        if len(group) > 1
        and {score.dataset for score in group} == datasets[key.measure, key.label_space]
    ]
    return [*scores, *means]


def few_shot_scores(scores: Iterable[Score]) -> list[Score]:
    """Of methods that learned all classes, tested on all: for tables against shots."""
    return [score for score in scores if score.label_space == score.concepts == "all"]


@dataclass(frozen=True)
class Generalisation:
    """One measure of one method with one number of shots on a dataset, by label space."""

    dataset: str
    method: str
    shots: int
    measure: str
    estimates: dict[str, Estimate]
    """By label space; H is among them."""


def generalisation(scores: Iterable[Score], halves: tuple[str, str]) -> list[Generalisation]:
    """Methods that learned one half of the classes, or none, on either half; halves: of HALVES.

    One line per dataset, method and shots, and one for the mean over all datasets that have both
    halves (digits have no IP classes). Methods that learned all classes are left out.
    """
    partial = [s for s in scores if s.dataset != AVERAGE and (not s.shots or s.concepts in halves)]
    spaces: dict[str, set[str]] = defaultdict(set)
    for score in partial:
        spaces[score.dataset].add(score.label_space)
    whole = [score for score in partial if spaces[score.dataset].issuperset(halves)]
    means = [score for score in with_average(whole) if score.dataset == AVERAGE]
    groups: dict[tuple[str, str, int, str], dict[str, Estimate]] = defaultdict(dict)
    for s in summaries([*partial, *means]):
        groups[s.dataset, s.method, s.shots, s.measure][s.label_space] = s.estimate
    return [Generalisation(*key, group) for key, group in groups.items() if {*halves} & {*group}]
