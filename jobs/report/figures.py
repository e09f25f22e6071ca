"""The figures of a report, as PNG."""

import io
import math
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from jobs.report.sources import Fitted
from jobs.report.statistics import Measured

INK, FAINT = "#1f2933", "#e3e7eb"
COLOURS = ("#0b6fa4", "#d1603d", "#3a8f5c", "#8257a8", "#b08a1e", "#5d6b78")
LINES = ("-", "--", ":")
"""One for all methods until the colours come again."""
MARKERS = "os^DvPX"  # one more than colours, so that no two methods of 42 look alike
DOTS_PER_INCH = 160
SHOWN_PER_INCH = 104
"""CSS pixels: 10 inches fill the page, and letters are of one size in all figures."""
MOST = 10
"""Deviations beyond it are drawn there."""
MOST_DATASETS = 12
"""Of which fusion curves are drawn."""
DODGE, MOST_DODGE = 0.07, 0.6
"""Shift between the lines of a panel, so that intervals do not cover each other, and of the last
from the first at most: the next number of shots is 1 away."""


def accuracy_figure(cells: Sequence[Measured]) -> bytes:
    """Accuracy against shots, one panel per dataset: mean and 95 % interval; zero-shot dashed."""
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    figure, panels = grid(len(datasets), height=2.5)
    methods = list(dict.fromkeys(cell.method for cell in cells if cell.shots))
    shots = sorted({cell.shots for cell in cells if cell.shots})
    for panel, dataset in zip(panels, datasets, strict=False):
        panel.set_title(dataset, fontsize=10)
        panel.set_xticks(range(len(shots)), map(str, shots))
        for cell in cells:
            if cell.dataset == dataset and not cell.shots:
                panel.axhline(100 * cell.accuracy.mean, color=INK, ls="--", lw=1, label=cell.method)
        for number, method in enumerate(methods):
            own = {c.shots: c for c in cells if (c.dataset, c.method) == (dataset, method)}
            _accuracy_line(panel, method, number, [own.get(s) for s in shots], len(methods))
    figure.supxlabel("shots (labelled training images per class)", fontsize=9)
    figure.supylabel("test accuracy, %", fontsize=9)
    _legend(figure, panels)
    return png(figure)


def _accuracy_line(
    panel: Axes, method: str, number: int, cells: Sequence[Measured | None], methods: int
) -> None:
    found = [(place, cell.accuracy) for place, cell in enumerate(cells) if cell]
    shift = (number - (methods - 1) / 2) * min(DODGE, MOST_DODGE / methods)
    panel.errorbar(
        [place + shift for place, _ in found],
        [100 * accuracy.mean for _, accuracy in found],
        [100 * (accuracy.half_width or 0) for _, accuracy in found],
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        linestyle=LINES[number // len(COLOURS) % len(LINES)],
        markersize=4,
        linewidth=1.4,
        elinewidth=1,
        capsize=2,
        label=method,
    )


def pretraining_figure(metrics: Sequence[Mapping[str, float]]) -> bytes:
    """Losses, step size, speed and, where it was probed, accuracies over the steps of a run."""
    drawn = [
        ("loss", ("loss", "dino", "ibot")),
        ("step size", ("lr",)),
        ("image crops per second", ("images_per_s",)),
    ]
    if any("knn" in row for row in metrics):
        drawn.append(("accuracy on labelled images", ("knn", "linear_probe")))
    figure, panels = panels_of(1, len(drawn), height=2.6)
    for panel, (title, names) in zip(panels, drawn, strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            known = [(row["step"], row[name]) for row in metrics if name in row]
            panel.plot(*zip(*known, strict=True), color=colour, lw=1.4, label=name)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step", fontsize=9)
        panel.set_ylim(bottom=0)
        panel.yaxis.set_major_formatter("{x:g}")
        if len(names) > 1:
            panel.legend(frameon=False, fontsize=8)
    return png(figure)


def fusion_figure(fits: Sequence[Fitted]) -> bytes:
    """Validation accuracy against fusion weight, a panel per dataset and a line per seed; the
    chosen weight is marked."""
    datasets = list(dict.fromkeys(fit.dataset for fit in fits))[:MOST_DATASETS]
    figure, panels = grid(len(datasets), height=2.5)
    for panel, dataset in zip(panels, datasets, strict=False):
        panel.set_title(dataset, fontsize=10)
        own = [fit for fit in fits if fit.dataset == dataset]
        for fit, colour in zip(own, COLOURS, strict=False):
            weights, accuracies = zip(*fit.curve, strict=True)
            percent = [100 * accuracy for accuracy in accuracies]
            panel.plot(weights, percent, color=colour, lw=1.4, label=f"seed {fit.seed}")
            chosen = min(fit.curve, key=lambda point: abs(point[0] - fit.fusion_weight))
            panel.plot(chosen[0], 100 * chosen[1], "o", color=colour, markersize=7, mec="white")
    figure.supxlabel("fusion weight: 0 is the text head alone, 1 the visual head alone", fontsize=9)
    figure.supylabel("validation accuracy, %", fontsize=9)
    _legend(figure, panels)
    return png(figure)


def curation_figure(decisions: pa.Table) -> bytes:
    """Histograms of pictures' scores, of each group of classes and as deviations from the class's
    median: kept ones, those refused for their score, those refused for another reason."""
    scored = decisions.filter(pc.is_finite(decisions["score"]))
    groups = sorted(set(scored["group"].to_pylist()))
    drawn = [(f"{g} classes", "cosine of image and caption", "score", g) for g in groups]
    drawn.append(("all classes", "deviations from the class’s median", "deviation", ""))
    figure, panels = panels_of(1, len(drawn), height=2.6)
    for panel, (title, unit, name, group) in zip(panels, drawn, strict=True):
        rows = scored.filter(pc.equal(scored["group"], group)) if group else scored
        values, reason = (rows[column].to_numpy() for column in (name, "reason"))
        low = reason == "low score"
        parts = {"kept": reason == "", "low score": low, "other reasons": ~low & (reason != "")}
        panel.hist(
            [values[part].clip(-MOST, MOST) for part in parts.values()],
            bins=40,
            stacked=True,
            label=list(parts),
            color=COLOURS[: len(parts)],
        )
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(unit, fontsize=9)
    figure.supylabel("pictures", fontsize=9)
    _legend(figure, panels)
    return png(figure)


def shown_width(png: bytes) -> int:
    """CSS pixels that a figure is to be shown in."""
    return Image.open(io.BytesIO(png)).width * SHOWN_PER_INCH // DOTS_PER_INCH


def grid(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """`count` panels, at most four in a line; what is left of the last line stays empty."""
    columns = min(4, count)
    figure, panels = panels_of(math.ceil(count / columns), columns, height)
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels


def panels_of(
    lines: int, columns: int, height: float, ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """height: of one line, in inches; ratios: of the columns' widths."""
    figure = Figure(
        figsize=(min(10, 2 + 3.2 * columns), height * lines + 0.4), layout="constrained"
    )
    panels = list(figure.subplots(lines, columns, squeeze=False, width_ratios=ratios).flat)
    for panel in panels:
        panel.grid(color=FAINT, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8, colors=INK)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend above all panels."""
    by_label: dict[str, Artist] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        by_label |= dict(zip(map(str, labels), handles, strict=True))
    figure.legend(
        list(by_label.values()), list(by_label), loc="outside upper center", ncols=6, frameon=False,
        fontsize=9,
    )  # fmt: skip


def png(figure: Figure) -> bytes:
    """The figure, drawn."""
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()
