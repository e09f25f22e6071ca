"""Tables of what was measured; those of a measure are made alike, whichever it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.search.measures import Measure
from cluster.artifacts import Artifact
from jobs.report.sources import known_measures, result_scores
from jobs.report.statistics.classes import ClassScore
from jobs.report.statistics.differences import Difference, below_zero_shot
from jobs.report.statistics.scores import (
    H_MEAN,
    HALVES,
    Generalisation,
    Score,
    Summary,
    few_shot_scores,
    generalisation,
    summaries,
    with_average,
    with_h_mean,
)
from jobs.report.tables.table import Table, Value

ACCURACY = "accuracy"
"""The measure of the closing table, and the first of a page."""
BELOW = " ▼"
"""Follows a mean that is below zero-shot's."""


@dataclass(frozen=True)
class MeasureTables:
    """All tables of one measure."""

    measure: Measure[Any]
    shots: Table
    """Of methods that learned all classes, against their number of shots."""
    generalisation: dict[tuple[str, str], Table]
    """By halves of the classes, of methods that learned one half; empty if none did."""

    def by_name(self) -> dict[str, Table]:
        """As files are named; those of accuracy alone have no prefix."""
        prefix = "" if self.measure.name == ACCURACY else f"{self.measure.name}_"
        halves = {"_against_".join(h).lower(): table for h, table in self.generalisation.items()}
        return {self.measure.name: self.shots} | {prefix + n: t for n, t in halves.items()}


def measure_tables(scores: Sequence[Score], measure: Measure[Any]) -> MeasureTables:
    """scores: with H-means and averages; those of other measures are left out."""
    scores = [score for score in scores if score.measure == measure.name]
    seeds = len({score.seed for score in scores})
    groups = {halves: generalisation(scores, halves) for halves in HALVES}
    return MeasureTables(
        measure,
        shots_table(summaries(few_shot_scores(scores)), measure, seeds),
        {h: generalisation_table(lines, h, measure) for h, lines in groups.items() if lines},
    )


def closing_table(results: Artifact) -> str:
    """Accuracy against shots and OOP against IP of a "results" artifact, in plain columns."""
    scores = [score for score in result_scores(results) if score.measure == ACCURACY]
    tables = measure_tables(with_average(with_h_mean(scores)), known_measures()[ACCURACY])
    return "\n\n".join(table.text() for table in tables.by_name().values())


def shots_table(cells: Sequence[Summary], measure: Measure[Any], seeds: int) -> Table:
    """One line per dataset and method, with a column for each number of shots.

    cells: of this measure in one label space. BELOW marks a mean that is below zero-shot's.
    """
    shots = sorted({cell.shots for cell in cells})
    below = {(c.dataset, c.method, c.shots) for c in below_zero_shot(cells)}
    texts = {
        (c.dataset, c.method, c.shots): c.estimate.text(measure.scale)
        + (BELOW if (c.dataset, c.method, c.shots) in below else "")
        for c in cells
    }
    lines: list[list[Value]] = [
        [dataset, method, *(texts.get((dataset, method, number), "") for number in shots)]
        for dataset, method in _by_dataset((cell.dataset, cell.method) for cell in cells)
    ]
    title = (
        f"Test {measure.title}{' in %' if measure.unit else ''}: "
        f"mean ± half of the 95 % interval over {seeds} seeds (Student's t)"
        + (f";{BELOW}: below zero-shot" if below else "")
    )
    return Table(["dataset", "method", *map(shots_title, shots)], lines, title, names=2)


def generalisation_table(
    groups: Sequence[Generalisation], halves: tuple[str, str], measure: Measure[Any]
) -> Table:
    """One line per dataset, method and number of shots, with a column for each label space."""
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    place = {dataset: number for number, dataset in enumerate(datasets)}
    spaces = (*halves, "all", H_MEAN)
    lines: list[list[Value]] = [
        [
            *(group.dataset, group.method, group.shots),
            *(
                group.estimates[s].text(measure.scale) if s in group.estimates else ""
                for s in spaces
            ),
        ]
        for group in sorted(groups, key=lambda g: (place[g.dataset], g.shots))
    ]
    title = f"{' against '.join(halves)}; H is the harmonic mean per seed, then averaged"
    return Table(["dataset", "method", "shots", *spaces], lines, title, names=2)


def space_table(scores: Sequence[Score], measure: Measure[Any]) -> Table:
    """One line per dataset and method, with a column for each label space that has scores.

    scores: with H-means and averages; those of other measures are left out.
    """
    cells = summaries(score for score in scores if score.measure == measure.name)
    spaces = [s for s in ("OOP", "IP", H_MEAN, "all") if s in {cell.label_space for cell in cells}]
    texts = {(c.dataset, c.method, c.label_space): c.estimate.text(measure.scale) for c in cells}
    lines: list[list[Value]] = [
        [dataset, method, *(texts.get((dataset, method, space), "") for space in spaces)]
        for dataset, method in _by_dataset((cell.dataset, cell.method) for cell in cells)
    ]
    title = f"{sentence(measure.title)}{' in %' if measure.unit else ''}. {measure.note}".strip()
    return Table(["dataset", "method", *spaces], lines, title, names=2)


def number_table(scores: Sequence[Score], measures: Sequence[Measure[Any]]) -> Table:
    """One line per dataset and method, with the mean over seeds of each measure over all images."""
    names = [measure.name for measure in measures]
    cells = summaries(s for s in scores if s.measure in names and s.label_space == "all")
    means = {(c.dataset, c.method, c.measure): f"{c.estimate.mean:.1f}" for c in cells}
    lines: list[list[Value]] = [
        [dataset, method, *(means.get((dataset, method, name), "") for name in names)]
        for dataset, method in _by_dataset((cell.dataset, cell.method) for cell in cells)
    ]
    header = ["dataset", "method", *(measure.title for measure in measures)]
    return Table(header, lines, "Numbers, mean over seeds.", names=2)


def _by_dataset(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Datasets and methods, each pair once, by the datasets' first appearance."""
    unique = list(dict.fromkeys(pairs))
    place = {dataset: number for number, (dataset, _) in reversed(list(enumerate(unique)))}
    return sorted(unique, key=lambda pair: place[pair[0]])


def difference_table(differences: Sequence[Difference], measure: Measure[Any]) -> Table:
    """One line per dataset, with a column for each number of shots; differences: of the measure."""
    shots = sorted({difference.shots for difference in differences})
    texts = {(d.dataset, d.shots): d.gain.text(measure.scale, signed=True) for d in differences}
    datasets = dict.fromkeys(difference.dataset for difference in differences)
    lines: list[list[Value]] = [[d, *(texts.get((d, s), "") for s in shots)] for d in datasets]
    return Table(["dataset", *map(shots_title, shots)], lines)


def summary_records(scores: Iterable[Score], measure: str) -> list[dict[str, Any]]:
    """The numbers behind a measure's tables, unrounded: mean, interval and seeds."""
    return [
        {
            "dataset": s.dataset,
            "method": s.method,
            "shots": s.shots,
            "label_space": s.label_space,
            measure: s.estimate.mean,
            "low": s.estimate.low,
            "high": s.estimate.high,
            "seeds": s.estimate.n,
        }
        for s in summaries(score for score in scores if score.measure == measure)
    ]


def difference_records(
    pairs: Mapping[tuple[str, str], Sequence[Difference]],
) -> list[dict[str, Any]]:
    """The numbers behind paired differences, unrounded; pairs: by method and the other one."""
    return [
        {
            "compare": compare,
            "against": against,
            "measure": d.measure,
            "dataset": d.dataset,
            "shots": d.shots,
            "gain": d.gain.mean,
            "low": d.gain.low,
            "high": d.gain.high,
            "seeds": d.gain.n,
        }
        for (compare, against), differences in pairs.items()
        for d in differences
    ]


def hardest_table(classes: Sequence[ClassScore]) -> Table:
    """One line per class, with the answer that is most often given instead."""
    header = ["dataset", "class", "accuracy, %", "test images", "most often taken for", "times"]
    lines: list[list[Value]] = [
        [c.dataset, c.class_name, f"{100 * c.accuracy:.1f}", c.images, c.taken_for, c.taken]
        for c in classes
    ]
    return Table(header, lines, names=2)


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def shots_title(shots: int) -> str:
    """Of a column."""
    return "1 shot" if shots == 1 else f"{shots} shots"
