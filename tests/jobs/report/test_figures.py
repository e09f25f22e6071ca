"""Figures are drawn whatever the datasets, methods and classes are called."""

import io

import numpy as np
import pytest
from PIL import Image

from cluster.catalog.dataset import Concept
from jobs.report.figures.axes import DOTS_PER_INCH, panels_of, png
from jobs.report.figures.discovery import names_figure, tsne_figure
from jobs.report.figures.scores import accuracy_figure, fusion_figure
from jobs.report.figures.searches import cost_figure, history_figure, importance_figure
from jobs.report.statistics.scores import Estimate, Summary
from jobs.report.statistics.searches import CellSearch, FittedModel, Trial

BROKEN = r"$\frac{1$ and $\nothing$"
"""No formula that could be drawn."""
CELLS = [
    Summary(BROKEN, method, shots, "accuracy", "all", Estimate(0.5, 0.1, 3))
    for method, shots in (("zero-shot", 0), (BROKEN, 1), (BROKEN, 4))
]
TRIALS = [Trial("c", n, "complete", 0.1 * n, {"lr": 0.1}, 1.0) for n in range(3)]
SEARCH = CellSearch("c", BROKEN, BROKEN, 1, TRIALS, 1.0)
FIT = FittedModel("c", BROKEN, BROKEN, 1, 0, {}, 0.5, 1.0, "fused", 0.5, [(0.0, 0.4), (1.0, 0.6)])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: accuracy_figure(CELLS),
        lambda: fusion_figure([FIT]),
        lambda: history_figure([SEARCH]),
        lambda: importance_figure({BROKEN: {BROKEN: 0.3, "lr": 0.7}}),
        lambda: cost_figure([SEARCH]),
        lambda: names_figure([Concept(BROKEN, "IP")], np.array([0, 0]), np.array(["$_", ""])),
    ],
    ids=["accuracy", "fusion", "history", "importance", "cost", "names"],
)
def test_a_name_is_never_read_as_a_formula(draw) -> None:  # type: ignore[no-untyped-def]
    Image.open(io.BytesIO(draw())).verify()


def test_dollars_of_a_name_are_drawn() -> None:
    def titled(as_formula: bool) -> bytes:
        figure, (panel,) = panels_of(1, 1, 2.0)
        panel.set_title("A $5 and $6", parse_math=as_formula)
        figure.savefig(buffer := io.BytesIO(), format="png", dpi=DOTS_PER_INCH)
        return buffer.getvalue()

    figure, (panel,) = panels_of(1, 1, 2.0)
    panel.set_title("A $5 and $6")
    assert png(figure) == titled(as_formula=False) != titled(as_formula=True)


def test_a_t_sne_is_drawn_with_and_without_classes() -> None:
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    clusters, groups = np.arange(12) % 3, np.array(["IP", "OOP"] * 6)
    pictures = {tsne_figure(features, clusters, k, groups) for k in (None, clusters)}
    assert len(pictures) == 2
    for picture in pictures:
        Image.open(io.BytesIO(picture)).verify()
