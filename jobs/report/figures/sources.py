"""Figures of what the models were made from, as PNG: pretraining and curation."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jobs.report.figures.axes import COLOURS, legend, panels_of, png

MOST = 10
"""Deviations beyond it are drawn there."""


def pretraining_figure(metrics: Sequence[Mapping[str, float]]) -> bytes:
    """Losses, learning rate, speed and, where it was probed, accuracies over the steps of a run."""
    drawn = [
        ("loss", ("loss", "dino", "ibot")),
        ("learning rate", ("lr",)),
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


def curation_figure(decisions: pa.Table) -> bytes:
    """Histograms of pictures' scores, of each group and as deviations from the class's median.

    Apart are kept ones, those refused for their score, and those refused for another reason.
    decisions: of a "curation" artifact.
    """
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
    legend(figure, panels)
    return png(figure)
