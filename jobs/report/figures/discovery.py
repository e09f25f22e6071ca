"""Figures of a discovery, as PNG: two views of a t-SNE, and the given names of each class."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from cluster.catalog.dataset import Concept
from cluster.catalog.names import told_apart
from jobs.report.figures.axes import COLOURS, png

MARKERS = {"IP": "o", "OOP": "^"}
UNNAMED = "(unnamed)"
LONGEST_NAME = 24


def tsne_figure(
    features: np.ndarray, clusters: np.ndarray, labels: np.ndarray | None, groups: np.ndarray
) -> bytes:
    """Images by their features, in the colours of their classes and of their clusters.

    features: (N, D). clusters: (N,). labels: (N,) classes, None if there are none. groups: (N,)
    "IP" or "OOP".
    """
    perplexity = min(30.0, (len(features) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    by_class, by_cluster = figure.subplots(1, 2)
    if labels is None:
        by_class.set_axis_off()
    else:
        _scatter(by_class, points, labels, groups, "by true class (triangles: OOP)")
    _scatter(by_cluster, points, clusters, groups, "by cluster")
    return png(figure)


def _scatter(
    panel: Axes, points: np.ndarray, values: np.ndarray, groups: np.ndarray, title: str
) -> None:
    numbers = np.unique(values, return_inverse=True)[1]
    colours = colormaps["gist_ncar"](0.03 + 0.92 * numbers / max(1, numbers.max()))
    for group in np.unique(groups):
        members = groups == group
        x, y = points[members].T
        panel.scatter(x, y, c=colours[members], s=12, marker=MARKERS[group], linewidths=0)
    panel.set_title(title, fontsize=10)
    panel.set_xticks([])
    panel.set_yticks([])


def names_figure(concepts: Sequence[Concept], labels: np.ndarray, names: np.ndarray) -> bytes:
    """Share of each class's images per given name; the classes' own names first, in their order.

    labels: (N,) places in `concepts`. names: (N,) str, "" for none.
    """
    order = sorted(range(len(concepts)), key=lambda label: concepts[label].group, reverse=True)
    shown = told_apart({label: concepts[label].name for label in order})
    classes = list(dict.fromkeys(concepts[label].name for label in order))
    given = np.array([name or UNNAMED for name in names.tolist()], object)
    columns = [*dict.fromkeys([*classes, *sorted(set(given.tolist()))])]
    line_of = np.argsort(order)
    column_of = {name: place for place, name in enumerate(columns)}
    shares = np.zeros((len(order), len(columns)))
    np.add.at(shares, (line_of[labels], [column_of[name] for name in given.tolist()]), 1)
    shares /= shares.sum(axis=1, keepdims=True).clip(min=1)
    used = [c for c in range(len(columns)) if c < len(classes) or shares[:, c].any()]
    size = 2.2 + 0.17 * len(used), 1.8 + 0.17 * len(order)
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()
    panel.imshow(shares[:, used], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    panel.set_xticks(range(len(used)), [_short(columns[c]) for c in used], rotation=90, fontsize=6)
    panel.set_yticks(range(len(order)), [_short(name) for name in shown.values()], fontsize=6)
    panel.axhline(sum(c.group == "OOP" for c in concepts) - 0.5, color=COLOURS[1], lw=0.8)
    panel.set_xlabel("given name", fontsize=8)
    panel.set_ylabel("true class, OOP ones above the line", fontsize=8)
    return png(figure)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
