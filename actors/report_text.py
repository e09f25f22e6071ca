"""Result tables as plain text, for the end of a run in a terminal."""

from collections.abc import Sequence

from actors.report_sources import result_rows
from actors.report_tables import (
    H_MEAN,
    Measured,
    OopAndIp,
    few_shot_rows,
    measured,
    oop_and_ip,
    with_average,
    with_h_mean,
)
from cluster.artifacts import Artifact


def closing_table(results: Artifact) -> str:
    """Accuracy against shots and OOP against IP of a "results" artifact, in plain columns."""
    rows = with_average(with_h_mean(result_rows(results)))
    seeds = len({row.seed for row in rows})
    title = f"Test accuracy in %: mean ± half of the 95 % interval over {seeds} seeds (Student's t)"
    parts = [title, _columns(accuracy_lines(measured(few_shot_rows(rows))))]
    if groups := oop_and_ip(measured(rows)):
        parts += ["OOP against IP; H is the harmonic mean per seed, then averaged"]
        parts += [_columns(oop_and_ip_lines(groups))]
    return "\n\n".join(parts)


def accuracy_lines(cells: Sequence[Measured]) -> list[list[str]]:
    """A header, then one line per dataset and method with a column for each number of shots."""
    shots = sorted({cell.shots for cell in cells})
    found = {(c.dataset, c.method, c.shots): c.accuracy.percent() for c in cells}
    lines = {(c.dataset, c.method): [c.dataset, c.method] for c in cells}
    for (dataset, method), line in lines.items():
        line += [found.get((dataset, method, number), "") for number in shots]
    datasets = list(dict.fromkeys(dataset for dataset, _ in lines))
    ordered = [line for d in datasets for (dataset, _), line in lines.items() if dataset == d]
    return [["dataset", "method", *map(shots_title, shots)], *ordered]


def oop_and_ip_lines(groups: Sequence[OopAndIp]) -> list[list[str]]:
    """A header, then one line per dataset, method and number of shots."""
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    spaces = ("OOP", "IP", "all", H_MEAN)
    lines = [
        [group.dataset, group.method, str(group.shots)]
        + [group.accuracy[s].percent() if s in group.accuracy else "" for s in spaces]
        for group in sorted(groups, key=lambda g: (datasets.index(g.dataset), g.shots))
    ]
    return [["dataset", "method", "shots", *spaces], *lines]


def shots_title(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def _columns(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in padded)
