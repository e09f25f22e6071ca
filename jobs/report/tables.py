"""Tables as lines of text: results, artifacts, splits, differences, choices."""

from collections.abc import Sequence
from typing import Any

from cluster.artifacts import Artifact
from jobs.report.sources import Fitted, result_rows
from jobs.report.statistics.differences import Difference, below_zero_shot
from jobs.report.statistics.scores import (
    H_MEAN,
    HALVES,
    Generalisation,
    Measured,
    Row,
    few_shot_rows,
    generalisation,
    measured,
    with_average,
    with_h_mean,
)
from jobs.report.statistics.searches import CellSearch

Lines = list[list[str]]
"""A table to be shown: a header, then its lines."""
BELOW = " ▼"
"""Follows a mean that is below zero-shot's."""


def closing_table(results: Artifact) -> str:
    """Accuracy against shots and OOP against IP of a "results" artifact, in plain columns."""
    rows = with_average(with_h_mean(result_rows(results)))
    seeds = len({row.seed for row in rows})
    title = f"Test accuracy in %: mean ± half of the 95 % interval over {seeds} seeds (Student's t)"
    lines = accuracy_lines(measured(few_shot_rows(rows)))
    if any(cell.endswith(BELOW) for line in lines for cell in line):
        title += f";{BELOW}: below zero-shot"
    parts = [title, _columns(lines)]
    for halves in HALVES:
        if groups := generalisation(rows, halves):
            parts += [f"{' against '.join(halves)}; H is the harmonic mean per seed, then averaged"]
            parts += [_columns(generalisation_lines(groups, halves))]
    return "\n\n".join(parts)


def accuracy_lines(cells: Sequence[Measured]) -> Lines:
    """A header, then one line per dataset and method with a column for each number of shots.

    BELOW marks a mean that is below zero-shot's.
    """
    shots = sorted({cell.shots for cell in cells})
    below = below_zero_shot(cells)
    found = {
        (c.dataset, c.method, c.shots): c.accuracy.percent() + (BELOW if c in below else "")
        for c in cells
    }
    lines = {(c.dataset, c.method): [c.dataset, c.method] for c in cells}
    for (dataset, method), line in lines.items():
        line += [found.get((dataset, method, number), "") for number in shots]
    datasets = list(dict.fromkeys(dataset for dataset, _ in lines))
    ordered = [line for d in datasets for (dataset, _), line in lines.items() if dataset == d]
    return [["dataset", "method", *map(shots_title, shots)], *ordered]


def generalisation_lines(groups: Sequence[Generalisation], halves: tuple[str, str]) -> Lines:
    """A header, then one line per dataset, method and number of shots."""
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    spaces = (*halves, "all", H_MEAN)
    lines = [
        [group.dataset, group.method, str(group.shots)]
        + [group.accuracy[s].percent() if s in group.accuracy else "" for s in spaces]
        for group in sorted(groups, key=lambda g: (datasets.index(g.dataset), g.shots))
    ]
    return [["dataset", "method", "shots", *spaces], *lines]


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table that has a header as its first line."""
    header, *rest = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *rest))


def shots_title(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def _columns(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def artifact_lines(artifacts: dict[str, Artifact]) -> Lines:
    lines = [["role", "artifact", "made", "rows", "seeds", "hash"]]
    for role, artifact in artifacts.items():
        manifest = artifact.manifest
        counts, seeds = (
            ", ".join(f"{name} {n:,}" for name, n in pairs.items())
            for pairs in (manifest.rows, manifest.seeds)
        )
        name = f"{manifest.kind} / {manifest.name}"
        lines.append([role, name, made_at(artifact), counts, seeds, manifest.content_hash[:12]])
    return lines


def made_at(artifact: Artifact) -> str:
    """To the minute; manifests are in UTC."""
    return artifact.manifest.created[:16].replace("T", " ") + " UTC"


def split_lines(rows: Sequence[Row]) -> Lines:
    """The drawn shots behind the results, by their hash."""
    drawn = {(r.dataset, r.method, str(r.shots), str(r.seed), r.split_hash): None for r in rows}
    return [["dataset", "method", "shots", "seed", "split"], *(list(k) for k in drawn if k[-1])]


def difference_lines(differences: Sequence[Difference]) -> Lines:
    shots = sorted({difference.shots for difference in differences})
    found = {(d.dataset, d.shots): d.gain.percent(signed=True) for d in differences}
    datasets = dict.fromkeys(difference.dataset for difference in differences)
    header = ["dataset", *map(shots_title, shots)]
    return [header, *([d, *(found.get((d, s), "") for s in shots)] for d in datasets)]


def chosen_lines(fits: Sequence[Fitted], searches: Sequence[CellSearch]) -> Lines:
    """One line per cell: what its search chose and, seed by seed, which head answers."""
    header = ["dataset", "method", "shots", "trials", "chosen by the search", "val %", "head"]
    return [
        header,
        *(_chosen([fit for fit in fits if fit.cell == of.cell], of) for of in searches),
    ]


def _chosen(fits: Sequence[Fitted], search: CellSearch) -> list[str]:
    """fits: of one cell, one per seed."""
    first = fits[0]
    trials = [f"{n} {state}" for state, n in search.states.items()]
    values = [f"{name} {_short(first.hyper[name])}" for name in search.names]
    return [
        first.dataset,
        first.method,
        str(first.shots),
        ", ".join(trials),
        ", ".join(values),
        " · ".join(f"{100 * f.val_accuracy:.1f}" for f in fits if f.val_accuracy is not None),
        " · ".join(map(_head, fits)),
    ]


def _head(fit: Fitted) -> str:
    return f"{fit.head} {fit.fusion_weight:.2f}" if fit.head == "fused" else fit.head


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
