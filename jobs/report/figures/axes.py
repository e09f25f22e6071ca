"""What all figures share: panels, one legend, colours, and the way to PNG."""

import io
import math
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

INK, FAINT = "#1f2933", "#e3e7eb"
COLOURS = ("#0b6fa4", "#d1603d", "#3a8f5c", "#8257a8", "#b08a1e", "#5d6b78")
DOTS_PER_INCH = 160
SHOWN_PER_INCH = 104
"""CSS pixels: 10 inches fill the page, and letters are of one size in all figures."""


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
    """Empty panels with a grid.

    height: of one line, in inches. ratios: of the columns' widths.
    """
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


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend above all panels, in as many columns as there is room for."""
    by_label: dict[str, Artist] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        by_label |= dict(zip(map(str, labels), handles, strict=True))
    figure.legend(
        list(by_label.values()),
        list(by_label),
        loc="outside upper center",
        ncols=int(0.6 * figure.get_figwidth()),
        frameon=False,
        fontsize=9,
    )


def png(figure: Figure) -> bytes:
    """The figure, drawn. Names in it are outside data: none is read as a formula between `$`."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def shown_width(png: bytes) -> int:
    """CSS pixels that a figure is to be shown in."""
    return Image.open(io.BytesIO(png)).width * SHOWN_PER_INCH // DOTS_PER_INCH
