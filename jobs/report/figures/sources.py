"""Figures of what the models were made from, as PNG: pretraining and curation."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jobs.report.figures.axes import COLOURS, grid, legend, panels_of, png

BEGIN_AT_ZERO = ("loss", "learning rate", "image crops per second")
FEATURES = ("teacher", "random", "raw")
"""Of the teacher, of an adapter as it was drawn, and of CLIP's own tokens."""
MOST = 10
"""Deviations beyond it are drawn there."""


def pretraining_figure(metrics: Sequence[Mapping[str, float]]) -> bytes:
    """Losses, learning rate and speed over the steps of a run, and how well class means of features
    tell pictures of known classes apart, wherever that was tried.

    metrics: rows of `metrics.jsonl`, with accuracies by `actors.pretraining.probe.key`.
    """
    drawn = {
        "loss": {"loss": "loss", "dino": "dino", "ibot": "ibot"},
        "learning rate": {"": "lr"},
        "image crops per second": {"": "images_per_s"},
    }
    tried = {name.split("/")[0]: None for row in metrics for name in row if name.endswith("/ncm")}
    for task in tried:
        title = f"class means: {task.replace('_', ' ')}"
        drawn[title] = {features: f"{task}/{features}/ncm" for features in FEATURES}
    figure, panels = grid(len(drawn), height=2.6)
    for panel, (title, lines) in zip(panels, drawn.items(), strict=False):
        for (label, name), colour in zip(lines.items(), COLOURS, strict=False):
            known = [(row["step"], row[name]) for row in metrics if name in row]
            panel.plot(*zip(*known, strict=True), color=colour, lw=1.4, label=label)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step", fontsize=9)
        if title in BEGIN_AT_ZERO:
            panel.set_ylim(bottom=0)
        panel.yaxis.set_major_formatter("{x:g}")
        if len(lines) > 1:
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
