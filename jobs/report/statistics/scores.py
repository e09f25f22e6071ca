"""What a report computes from result rows: means, intervals, paired differences, H-mean."""

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


class Row(NamedTuple):
    """One measured accuracy, in [0, 1]."""

    dataset: str
    method: str
    shots: int
    seed: int
    label_space: str
    accuracy: float
    split_hash: str
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
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.mean + self.half_width

    @property
    def excludes_zero(self) -> bool:
        return self.half_width is not None and abs(self.mean) > self.half_width

    def percent(self, signed: bool = False) -> str:
        """As tables show it: "71.2 ± 3.4", in per cent or percentage points."""
        mean = f"{100 * self.mean:{'+' if signed else ''}.1f}"
        return mean if self.half_width is None else f"{mean} ± {100 * self.half_width:.1f}"


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


@dataclass(frozen=True)
class Measured:
    """One method on one dataset with one number of shots, over seeds."""

    dataset: str
    method: str
    shots: int
    label_space: str
    accuracy: Estimate


def measured(rows: Iterable[Row]) -> list[Measured]:
    """Estimates over seeds, in order of first appearance."""
    groups: dict[tuple[str, str, int, str], list[float]] = defaultdict(list)
    for row in rows:
        groups[row.dataset, row.method, row.shots, row.label_space].append(row.accuracy)
    return [Measured(*key, estimate(values)) for key, values in groups.items()]


def with_h_mean(rows: Sequence[Row]) -> list[Row]:
    """The rows, and rows of label space "H": the H-mean of OOP and IP, or of base and new classes,
    of one model, per seed."""
    models: dict[Row, dict[str, float]] = defaultdict(dict)
    for row in rows:
        models[row._replace(label_space=H_MEAN, accuracy=0)][row.label_space] = row.accuracy
    means = [
        model._replace(accuracy=h_mean(found[one], found[other]))
        for model, found in models.items()
        for one, other in HALVES
        if {one, other} <= found.keys()
    ]
    return [*rows, *means]


def with_average(rows: Sequence[Row]) -> list[Row]:
    """The rows, and rows of the mean over datasets, per seed and label space.

    A mean is taken over all datasets that have the label space (digits have no IP classes), if
    they are more than one and each has been measured.
    """
    having: dict[str, set[str]] = defaultdict(set)
    groups: dict[Row, list[Row]] = defaultdict(list)
    for row in rows:
        having[row.label_space].add(row.dataset)
        groups[row._replace(dataset=AVERAGE, accuracy=0, split_hash="")].append(row)
    means = [
        key._replace(accuracy=math.fsum(row.accuracy for row in group) / len(group))
        for key, group in groups.items()
        if len(group) > 1 and {row.dataset for row in group} == having[key.label_space]
    ]
    return [*rows, *means]


def few_shot_rows(rows: Sequence[Row]) -> list[Row]:
    """Rows for accuracy against shots: methods that learned all classes, tested on all."""
    return [row for row in rows if row.label_space == row.concepts == "all"]


@dataclass(frozen=True)
class Generalisation:
    """One method with one number of shots on a dataset, by label space; H is among them."""

    dataset: str
    method: str
    shots: int
    accuracy: dict[str, Estimate]


def generalisation(rows: Iterable[Row], halves: tuple[str, str]) -> list[Generalisation]:
    """Methods that learned one half of the classes, or none, on either half; halves: of HALVES.

    One line per dataset, method and shots, and one for the mean over all datasets that have both
    halves (digits have no IP classes). Methods that learned all classes are left out.
    """
    partial = [
        row for row in rows if row.dataset != AVERAGE and (not row.shots or row.concepts in halves)
    ]
    having: dict[str, set[str]] = defaultdict(set)
    for row in partial:
        having[row.dataset].add(row.label_space)
    whole = [row for row in partial if having[row.dataset].issuperset(halves)]
    means = [row for row in with_average(whole) if row.dataset == AVERAGE]
    found: dict[tuple[str, str, int], dict[str, Estimate]] = defaultdict(dict)
    for cell in measured([*partial, *means]):
        found[cell.dataset, cell.method, cell.shots][cell.label_space] = cell.accuracy
    return [Generalisation(*key, spaces) for key, spaces in found.items() if {*halves} & {*spaces}]
