"""Figures of results, as PNG: accuracy and differences against shots, and fusion weights."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from jobs.report.figures.axes import COLOURS, INK, grid, legend, panels_of, png
from jobs.report.statistics.differences import Difference
from jobs.report.statistics.scores import Estimate, Summary
from jobs.report.statistics.searches import FittedModel

LINES = ("-", "--", ":")
"""One for all methods until the colours come again."""
MARKERS = "os^DvPX"  # one more than colours, so that no two methods of 42 look alike
MOST_DATASETS = 12
"""Of which fusion curves are drawn."""
DODGE, MOST_DODGE = 0.07, 0.6
"""Shift between the lines of a panel, so that intervals do not cover each other, and of the last
from the first at most: the next number of shots is 1 away."""


def accuracy_figure(cells: Sequence[Summary]) -> bytes:
    """Accuracy against shots, one panel per dataset: mean and 95 % interval; zero-shot dashed.

    cells: of accuracy in one label space.
    """
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    figure, panels = grid(len(datasets), height=2.5)
    methods = list(dict.fromkeys(cell.method for cell in cells if cell.shots))
    shots = sorted({cell.shots for cell in cells if cell.shots})
    for panel, dataset in zip(panels, datasets, strict=False):
        panel.set_title(dataset, fontsize=10)
        panel.set_xticks(range(len(shots)), map(str, shots))
        for cell in cells:
            if cell.dataset == dataset and not cell.shots:
                panel.axhline(100 * cell.estimate.mean, color=INK, ls="--", lw=1, label=cell.method)
        for number, method in enumerate(methods):
            line = {
                c.shots: c.estimate for c in cells if (c.dataset, c.method) == (dataset, method)
            }
            points = [(place, line[s]) for place, s in enumerate(shots) if s in line]
            _line(panel, method, number, points, len(methods))
    figure.supxlabel("shots (labelled training images per class)", fontsize=9)
    figure.supylabel("test accuracy, %", fontsize=9)
    legend(figure, panels)
    return png(figure)


def _line(
    panel: Axes, name: str, number: int, points: Sequence[tuple[int, Estimate]], lines: int
) -> None:
    """The one of this number among so many lines, its points in % beside those of the others.

    points: place of each on the axis of shots, and what was estimated.
    """
    shift = (number - (lines - 1) / 2) * min(DODGE, MOST_DODGE / lines)
    panel.errorbar(
        [place + shift for place, _ in points],
        [100 * estimate.mean for _, estimate in points],
        [100 * (estimate.half_width or 0) for _, estimate in points],
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        linestyle=LINES[number // len(COLOURS) % len(LINES)],
        markersize=4,
        linewidth=1.4,
        elinewidth=1,
        capsize=2,
        label=name,
    )


def difference_figure(lines: Mapping[str, Sequence[Difference]]) -> bytes:
    """Differences of accuracy against shots, a line of each name: mean and interval over datasets.

    lines: `paired_over_datasets` by name.
    """
    figure, (panel,) = panels_of(1, 1, height=2.6)
    shots = sorted({d.shots for line in lines.values() for d in line})
    panel.set_xticks(range(len(shots)), map(str, shots))
    panel.axhline(0, color=INK, lw=1)
    for number, (name, line) in enumerate(lines.items()):
        _line(panel, name, number, [(shots.index(d.shots), d.gain) for d in line], len(lines))
    panel.set_xlabel("shots", fontsize=9)
    panel.set_ylabel("difference, points", fontsize=9)
    legend(figure, [panel])
    return png(figure)


def fusion_figure(fits: Sequence[FittedModel]) -> bytes:
    """Validation accuracy against fusion weight, with the chosen weight marked.

    A panel per dataset, a line per seed.
    """
    datasets = list(dict.fromkeys(fit.dataset for fit in fits))[:MOST_DATASETS]
    figure, panels = grid(len(datasets), height=2.5)
    for panel, dataset in zip(panels, datasets, strict=False):
        panel.set_title(dataset, fontsize=10)
        of_dataset = [fit for fit in fits if fit.dataset == dataset]
        for fit, colour in zip(of_dataset, COLOURS, strict=False):
            weights, accuracies = zip(*fit.curve, strict=True)
            percent = [100 * accuracy for accuracy in accuracies]
            panel.plot(weights, percent, color=colour, lw=1.4, label=f"seed {fit.seed}")
            chosen = min(fit.curve, key=lambda point: abs(point[0] - fit.fusion_weight))
            panel.plot(chosen[0], 100 * chosen[1], "o", color=colour, markersize=7, mec="white")
    figure.supxlabel("fusion weight: 0 is the text head alone, 1 the visual head alone", fontsize=9)
    figure.supylabel("validation accuracy, %", fontsize=9)
    legend(figure, panels)
    return png(figure)
