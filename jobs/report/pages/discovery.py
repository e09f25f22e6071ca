"""The page of a discovery: its tables, its clusters with their names, and two views of a t-SNE."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.discovery.measures import OF_CELLS, OF_GROUPS, OF_IMAGES
from actors.pictures.codec import decode_rgb, png_bytes
from actors.search.measures import MEASURES, Measure
from actors.search.tasks import EncodedDataset
from cluster.folder import Folder
from cluster.rows import row_rng
from jobs.report.figures.discovery import names_figure, tsne_figure
from jobs.report.pages.render import Picture, data_uri, picture, render
from jobs.report.sources import discovery_scores, measures_of
from jobs.report.statistics.scores import Score, with_average, with_h_mean
from jobs.report.tables.results import number_table, sentence, space_table
from jobs.report.tables.table import Table
from models.methods.adapted import class_tokens

MOST_POINTS = 1500
"""Images in a t-SNE, drawn at random of more."""
SHOWN, SIDE = 5, 56
"""Images of a cluster in the gallery, and their size in pixels."""


@dataclass(frozen=True)
class MeasureSection:
    """Measures of one thing, a table each; the last may hold those that are numbers."""

    anchor: str
    title: str
    tables: list[Table]
    """Each with a title that says what its numbers are."""


@dataclass(frozen=True)
class DatasetSection:
    """The first discovery of one dataset with the first seed."""

    anchor: str
    dataset: str
    pictures: dict[str, Picture]
    """Figures by name."""
    clusters: list[dict[str, Any]]
    """Rows of `clusters`, each with `pictures`, data URIs."""


def discovery_page(discovery: Folder, encoded: Mapping[str, EncodedDataset]) -> str:
    """The page of a "discovery" artifact whose tables are written; encoded: its datasets."""
    scores = with_average(with_h_mean(discovery_scores(discovery)))
    clusters = discovery.read_table("clusters")
    first = clusters.select(["discovery", "seed"]).slice(0, 1).to_pylist()[0]
    measures = measure_sections(scores)
    datasets = [
        _dataset_section(discovery, clusters, of_dataset, first | {"dataset": name}, number)
        for number, (name, of_dataset) in enumerate(encoded.items())
    ]
    sections = {section.anchor: section.title for section in measures}
    sections |= {section.anchor: section.dataset for section in datasets}
    facts = {"measures": measures, "datasets": datasets, "first": first, "sections": sections}
    return render("discovery.html.j2", facts)


def measure_sections(scores: Sequence[Score]) -> list[MeasureSection]:
    """A section for each measure on test images, then those of training images.

    scores: with H-means and averages.
    """
    measures = {measure.name: measure for measure in measures_of(scores)}
    groups: dict[tuple[str, str], list[str]] = {
        (name, f"{sentence(measure.title)} on test images"): [name]
        for name, measure in measures.items()
        if name in MEASURES
    }
    groups["unlabelled", "Clusters and names of unlabelled images"] = [*OF_IMAGES, *OF_CELLS]
    groups["groups", "OOP and IP images by themselves"] = list(OF_GROUPS)
    sections = [
        MeasureSection(
            anchor, title, _tables(scores, [measures[n] for n in names if n in measures])
        )
        for (anchor, title), names in groups.items()
    ]
    return [section for section in sections if section.tables]


def _tables(scores: Sequence[Score], measures: Sequence[Measure[Any]]) -> list[Table]:
    tables = [space_table(scores, measure) for measure in measures if measure.unit]
    numbers = [measure for measure in measures if not measure.unit]
    return [*tables, *([number_table(scores, numbers)] if numbers else [])]


def _dataset_section(
    discovery: Folder,
    clusters: pa.Table,
    encoded: EncodedDataset,
    key: Mapping[str, Any],
    number: int,
) -> DatasetSection:
    """key: `dataset`, `discovery` and `seed` of the rows that are shown."""
    of_key = pc.scalar(True)
    for name, value in key.items():
        of_key &= pc.field(name) == value
    images = discovery.open_table("assignments").to_table(filter=of_key)
    cells = clusters.filter(of_key).to_pylist()
    figures = _figures(encoded, cells, images)
    return DatasetSection(
        f"dataset-{number}",
        key["dataset"],
        {name: picture(png) for name, png in figures.items()},
        _gallery(encoded, cells, images),
    )


def _figures(
    encoded: EncodedDataset, clusters: Sequence[dict[str, Any]], images: pa.Table
) -> dict[str, bytes]:
    index = encoded.store.index["train"]
    place = {row: i for i, row in enumerate(index["id"].to_pylist())}
    rows = np.array([place[image] for image in images["image"].to_pylist()])
    labels = index["label"].to_numpy()[rows]
    groups = np.array([concept.group for concept in encoded.dataset.concepts])[labels]
    in_cluster = images["cluster"].to_numpy()
    rng = row_rng(f"t-SNE {encoded.dataset.name}")
    drawn = np.sort(rng.permutation(len(rows))[:MOST_POINTS])
    tokens = encoded.store.features("train").of_images(rows[drawn].tolist()).without_patches[0]
    labelled = encoded.dataset.labelled
    figures = {
        "t-SNE": tsne_figure(
            class_tokens(tokens).numpy(),
            in_cluster[drawn],
            labels[drawn] if labelled else None,
            groups[drawn],
        )
    }
    if labelled:
        name_of = {cluster["cluster"]: cluster["name"] for cluster in clusters}
        names = np.array([name_of[cluster] for cluster in in_cluster.tolist()], object)
        figures["names"] = names_figure(encoded.dataset.concepts, labels, names)
    return figures


def _gallery(
    encoded: EncodedDataset, clusters: Sequence[dict[str, Any]], images: pa.Table
) -> list[dict[str, Any]]:
    """Every cluster with its most confident images, unnamed ones last."""
    of_cluster: dict[int, list[str]] = defaultdict(list)
    # By row among equals, as the images come.
    order = np.argsort(-images["confidence"].to_numpy(), kind="stable")
    ordered = images.select(["image", "cluster"]).take(order)
    for image, cluster in zip(*(column.to_pylist() for column in ordered.columns), strict=True):
        if len(of_cluster[cluster]) < SHOWN:
            of_cluster[cluster].append(image)
    ids = [image for chosen in of_cluster.values() for image in chosen]
    thumbnails = dict(zip(ids, map(_thumbnail, encoded.dataset.images(ids)), strict=True))
    return [
        {**c, "pictures": [thumbnails[image] for image in of_cluster[c["cluster"]]]}
        for c in sorted(clusters, key=lambda c: (c["by"] == "none", c["by"] == "labelled"))
        if c["images"]
    ]


def _thumbnail(data: bytes) -> str:
    image = decode_rgb(data)
    image.thumbnail((2 * SIDE, 2 * SIDE))
    return data_uri(png_bytes(image))
