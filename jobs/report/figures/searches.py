"""The figures of a search, as PNG."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from jobs.report.figures.axes import COLOURS, INK, grid, panels_of, png
from jobs.report.statistics.searches import CellSearch

MOST_PANELS = 12
FAINT_DOT = "#9aa7b4"


def history_figure(cells: Sequence[CellSearch]) -> bytes:
    """Val accuracy of every complete trial, and the best so far; of the cells with most trials."""
    ordered = sorted(cells, key=lambda cell: -len(cell.trials))[:MOST_PANELS]
    figure, panels = grid(len(ordered), height=1.9)
    for panel, cell in zip(panels, ordered, strict=False):
        shots = "1 shot" if cell.shots == 1 else f"{cell.shots} shots"
        panel.set_title(f"{cell.dataset}, {shots}\n{cell.method}", fontsize=8)
        complete = [
            (number, 100 * trial.val_accuracy)
            for number, trial in enumerate(cell.trials, start=1)
            if trial.state == "complete" and trial.val_accuracy is not None
        ]
        panel.plot(*zip(*complete, strict=True), "o", color=FAINT_DOT, markersize=3)
        best = [100 * value for value in cell.best_so_far]
        first = len(cell.trials) - len(best) + 1
        panel.step(
            range(first, first + len(best)), best, where="post", color=COLOURS[0], linewidth=1.4
        )
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    figure.supxlabel("trial", fontsize=9)
    figure.supylabel("validation accuracy, %", fontsize=9)
    return png(figure)


def importance_figure(shares: Mapping[str, Mapping[str, float]]) -> bytes:
    """Share of every hyper-parameter in the variance of val accuracy, one panel per method."""
    most = max(map(len, shares.values()))
    figure, panels = grid(len(shares), height=0.8 + 0.28 * most)
    for panel, (method, of_method) in zip(panels, shares.items(), strict=False):
        ordered = sorted(of_method.items(), key=lambda item: item[1])
        panel.barh([name for name, _ in ordered], [share for _, share in ordered], color=COLOURS[0])
        panel.set_title(method, fontsize=10)
        panel.set_xlim(0, 1)
    figure.supxlabel("share of the variance of validation accuracy", fontsize=9)
    return png(figure)


def cost_figure(cells: Sequence[CellSearch]) -> bytes:
    """Seconds of one worker by method and dataset, and by method and shots."""
    methods = list(dict.fromkeys(cell.method for cell in cells))
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    shots = sorted({cell.shots for cell in cells})
    by_dataset = _sums(cells, methods, datasets, [cell.dataset for cell in cells])
    by_shots = _sums(cells, methods, shots, [cell.shots for cell in cells])
    figure, panels = panels_of(
        1, 2, height=0.9 + 0.3 * len(methods), ratios=(len(datasets), len(shots))
    )
    known = np.concatenate([by_dataset, by_shots], axis=1)
    norm = LogNorm(max(known[known > 0].min(initial=1.0), 1e-2), max(known.max(), 1.0))
    _heat(panels[0], by_dataset, methods, datasets, norm)
    _heat(panels[1], by_shots, [""] * len(methods), [str(number) for number in shots], norm)
    panels[0].set_xlabel("dataset", fontsize=9)
    panels[0].tick_params(axis="x", rotation=30)
    panels[1].set_xlabel("shots", fontsize=9)
    return png(figure)


def _sums(cells: Sequence[CellSearch], lines: list[str], columns: list, places: list) -> np.ndarray:
    """Seconds (lines, columns); places: each cell's column."""
    sums = np.zeros((len(lines), len(columns)))
    for cell, place in zip(cells, places, strict=True):
        sums[lines.index(cell.method), columns.index(place)] += cell.seconds
    return sums


def _heat(
    panel: Axes, values: np.ndarray, lines: list[str], columns: list[str], norm: LogNorm
) -> None:
    panel.grid(visible=False)
    panel.imshow(np.ma.masked_equal(values, 0), cmap="Blues", norm=norm, aspect="auto")
    panel.set_xticks(range(len(columns)), columns)
    panel.set_yticks(range(len(lines)), lines)
    panel.tick_params(length=0)
    for (line, column), value in np.ndenumerate(values):
        if value:
            colour = "white" if norm(value) > 0.6 else INK
            text = f"{value:.0f}" if value >= 10 else f"{value:.2g}"
            panel.text(column, line, text, ha="center", va="center", fontsize=7, color=colour)
