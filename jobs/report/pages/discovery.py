"""The page of a discovery: its tables, its clusters with their names, and two views of a t-SNE."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from actors.pictures.codec import decode_rgb, png_bytes
from actors.search.tasks import EncodedDataset
from cluster.artifacts import Folder
from cluster.rows import row_rng
from jobs.report.figures.axes import png
from jobs.report.pages.gallery import data_uri
from jobs.report.statistics.scores import (
    H_MEAN,
    Estimate,
    Row,
    estimate,
    measured,
    with_average,
    with_h_mean,
)
from jobs.report.tables import Lines
from models.methods.adapted import class_tokens

SPACES = ("OOP", "IP", H_MEAN, "all")
MOST_POINTS = 1500
"""Images in a t-SNE, drawn at random of more."""
SHOWN, SIDE = 5, 56
"""Images of a cluster in the gallery, and their size in pixels."""
MARKERS = {"IP": "o", "OOP": "^"}


@dataclass(frozen=True)
class Shown:
    """The first discovery of one dataset with the first seed. figures: PNG by name."""

    dataset: str
    figures: dict[str, bytes]
    gallery: list[dict[str, Any]]


def accuracy_lines(metrics: Sequence[Mapping[str, Any]]) -> Lines:
    """Accuracy on test images, per dataset and method; H is of OOP and IP, seed by seed."""
    rows = [
        Row(m["dataset"], m["method"], 0, m["seed"], m["label_space"], m["value"], "")
        for m in metrics
        if m["measure"] == "accuracy"
    ]
    found: dict[tuple[str, str], dict[str, Estimate]] = defaultdict(dict)
    for cell in measured(with_average(with_h_mean(rows))):
        found[cell.dataset, cell.method][cell.label_space] = cell.accuracy
    header = ["dataset", "method", *SPACES]
    return [
        header,
        *(
            [*key, *(spaces[s].percent() if s in spaces else "" for s in SPACES)]
            for key, spaces in sorted(found.items(), key=lambda item: item[0][0])
        ),
    ]


def clustering_lines(metrics: Sequence[Mapping[str, Any]]) -> Lines:
    """What each discovery found among unlabelled images, per dataset."""
    columns = [
        ("clusters", "all", "clusters"), ("unnamed", "all", "unnamed"), ("rounds", "all", "rounds"),
        ("clustering", "all", "clustering, all"), ("clustering", "OOP", "OOP"),
        ("clustering", "IP", "IP"), ("naming", "OOP", "named right, OOP"), ("naming", "IP", "IP"),
        ("assigned", "OOP", "after learning, OOP"), ("assigned", "IP", "IP"),
    ]  # fmt: skip
    values = _values(metrics)
    cells = dict.fromkeys(
        (m["dataset"], m["method"]) for m in metrics if m["measure"] == "clustering"
    )
    lines = [["dataset", "discovery", *(title for _, _, title in columns)]]
    for dataset, method in sorted(cells):
        line = [dataset, method]
        for measure, space, _ in columns:
            found = estimate(v) if (v := values.get((dataset, method, measure, space))) else None
            number = measure in ("clusters", "unnamed", "rounds")
            line.append("" if not found else f"{found.mean:.1f}" if number else found.percent())
        lines.append(line)
    return lines


def alone_lines(metrics: Sequence[Mapping[str, Any]]) -> Lines:
    """Clustering accuracy of each group by itself, and the mean over datasets."""
    values = _values(m for m in metrics if m["measure"] == "alone")
    datasets = list(dict.fromkeys(dataset for dataset, *_ in values))
    lines = [["dataset", "OOP", "IP"]]
    means: dict[str, list[float]] = defaultdict(list)
    for dataset in datasets:
        line = [dataset]
        for space in ("OOP", "IP"):
            own = values.get((dataset, "k-means", "alone", space))
            line.append(estimate(own).percent() if own else "")
            means[space] += [estimate(own).mean] if own else []
        lines.append(line)
    mean = [f"{100 * np.mean(means[space]):.1f}" if means[space] else "" for space in ("OOP", "IP")]
    return [*lines, ["(average)", *mean]] if len(datasets) > 1 else lines


def shown(found: Folder, encoded: Mapping[str, EncodedDataset]) -> list[Shown]:
    """Pictures of every dataset. found: the artifact's tables, all written."""
    clusters = found.read_table("clusters").to_pylist()
    images = found.read_table("assignments").to_pylist()
    first = {"discovery": clusters[0]["discovery"], "seed": clusters[0]["seed"]}
    made = []
    for name, of_dataset in encoded.items():
        which = first | {"dataset": name}
        own = [c for c in clusters if which.items() <= c.items()]
        rows = [i for i in images if which.items() <= i.items()]
        made.append(Shown(name, _figures(of_dataset, own, rows), _gallery(of_dataset, own, rows)))
    return made


def _figures(
    encoded: EncodedDataset, clusters: list[dict[str, Any]], images: list[dict[str, Any]]
) -> dict[str, bytes]:
    index = encoded.store.index["train"]
    place = {row: i for i, row in enumerate(index["id"].to_pylist())}
    labels = index["label"].to_pylist()
    rng = row_rng(f"t-SNE {encoded.dataset.name}")
    drawn = sorted(rng.permutation(len(images))[:MOST_POINTS].tolist())
    rows = [place[images[i]["image"]] for i in drawn]
    features = class_tokens(encoded.store.features("train").tokens[0, rows, :1]).numpy()
    perplexity = min(30.0, (len(rows) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)
    label = np.array([labels[row] for row in rows])
    groups = np.array([c.group for c in encoded.dataset.concepts])[label]
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    by_class, by_cluster = figure.subplots(1, 2)
    if encoded.dataset.labelled:
        _scatter(by_class, points, label, groups, "by true class (triangles: OOP)")
    else:
        by_class.set_axis_off()
    cluster = np.array([images[i]["cluster"] for i in drawn])
    _scatter(by_cluster, points, cluster, groups, "by cluster")
    figures = {"t-SNE": png(figure)}
    if encoded.dataset.labelled:
        figures["names"] = _confusion(encoded, clusters, images, labels, place)
    return figures


def _scatter(
    panel: Axes, points: np.ndarray, value: np.ndarray, groups: np.ndarray, title: str
) -> None:
    numbers = np.unique(value, return_inverse=True)[1]
    colours = colormaps["gist_ncar"](0.03 + 0.92 * numbers / max(1, numbers.max()))
    for group in np.unique(groups):
        own = groups == group
        x, y = points[own].T
        panel.scatter(x, y, c=colours[own], s=12, marker=MARKERS[group], linewidths=0)
    panel.set_title(title, fontsize=10)
    panel.set_xticks([])
    panel.set_yticks([])


def _confusion(
    encoded: EncodedDataset,
    clusters: list[dict[str, Any]],
    images: list[dict[str, Any]],
    labels: list[int],
    place: Mapping[str, int],
) -> bytes:
    """Share of each class's images per given name; the classes' own names first, in their order."""
    given = {c["cluster"]: c["name"] or "(unnamed)" for c in clusters}
    own = sorted(encoded.dataset.concepts, key=lambda concept: concept.group, reverse=True)
    names = [concept.name for concept in own]
    columns = [*dict.fromkeys([*names, *sorted(set(given.values()))])]
    table = np.zeros((len(names), len(columns)))
    for image in images:
        name = encoded.dataset.concepts[labels[place[image["image"]]]].name
        table[names.index(name), columns.index(given[image["cluster"]])] += 1
    table /= table.sum(axis=1, keepdims=True).clip(min=1)
    used = [c for c in range(len(columns)) if c < len(names) or table[:, c].any()]
    size = 2.2 + 0.17 * len(used), 1.8 + 0.17 * len(names)
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()
    panel.imshow(table[:, used], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    panel.set_xticks(range(len(used)), [_short(columns[c]) for c in used], rotation=90, fontsize=6)
    panel.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=6)
    panel.axhline(sum(c.group == "OOP" for c in own) - 0.5, color="#d1603d", lw=0.8)
    panel.set_xlabel("given name", fontsize=8)
    panel.set_ylabel("true class, OOP ones above the line", fontsize=8)
    return png(figure)


def _gallery(
    encoded: EncodedDataset, clusters: list[dict[str, Any]], images: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every cluster with its most confident images, unnamed ones last."""
    of_cluster: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for image in sorted(images, key=lambda image: -image["confidence"]):
        of_cluster[image["cluster"]].append(image)
    chosen = {c: [image["image"] for image in rows[:SHOWN]] for c, rows in of_cluster.items()}
    ids = [image for rows in chosen.values() for image in rows]
    picture = dict(zip(ids, map(_thumbnail, encoded.dataset.images(ids)), strict=True))
    return [
        {**c, "pictures": [picture[image] for image in chosen.get(c["cluster"], [])]}
        for c in sorted(clusters, key=lambda c: (c["by"] == "none", c["by"] == "labelled"))
        if c["images"]
    ]


def _thumbnail(data: bytes) -> str:
    image = decode_rgb(data)
    image.thumbnail((2 * SIDE, 2 * SIDE))
    return data_uri(png_bytes(image))


def _values(
    metrics: Any,
) -> dict[tuple[str, str, str, str], list[float]]:
    """Over seeds, by dataset, method, measure and label space."""
    found: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for m in metrics:
        found[m["dataset"], m["method"], m["measure"], m["label_space"]].append(m["value"])
    return found


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
