"""What a discovery is worth: the one place where labels of unlabelled images and the test split are
opened, after everything has been found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from actors.discovery.discoverer import Discovered, DiscoveryCell
from actors.search.cells import Cell
from actors.search.evaluator import label_spaces, test_confusions
from actors.search.tasks import EncodedDataset, Tasks
from actors.search.trials import fit_cell
from cluster.catalog.splits import Concepts
from models.discovery.metrics import clustering_accuracy, joint_hits
from models.discovery.transclip import transclip
from models.discovery.ward import k_means
from models.discovery.zsnl import untaught
from models.methods.adapted import Adapted, class_tokens
from models.text_classifier import templates, text_classifier

SPACES: tuple[Concepts, ...] = ("OOP", "IP", "all")

CLUSTERS = pa.schema(
    [
        ("dataset", pa.string()),
        ("discovery", pa.string()),
        ("seed", pa.int32()),
        ("cluster", pa.int32()),
        ("images", pa.int32()),
        ("name", pa.string()),
        ("by", pa.string()),
        ("candidate", pa.string()),
        ("similarity", pa.float64()),
        ("margin", pa.float64()),
    ]
)
"""One row per cluster; `name` is empty for an unnamed one, `candidate` what it might be."""
ASSIGNMENTS = pa.schema(
    [
        ("dataset", pa.string()),
        ("discovery", pa.string()),
        ("seed", pa.int32()),
        ("image", pa.string()),
        ("cluster", pa.int32()),
        ("name", pa.string()),
        ("confidence", pa.float64()),
    ]
)
"""One row per unlabelled image; `image` is its id, `name` the one after the last round."""
METRICS = pa.schema(
    [
        ("dataset", pa.string()),
        ("method", pa.string()),
        ("seed", pa.int32()),
        ("measure", pa.string()),
        ("label_space", pa.string()),
        ("value", pa.float64()),
        ("images", pa.int32()),
    ]
)
"""Measures, shares of images in [0, 1] unless said otherwise.

accuracy: of test images, each label space by itself; clustering: of unlabelled images in the
cluster of their class, one matching for all; naming: of unlabelled images whose cluster has their
class's name; assigned: whose own name after the last round is; alone: of training images of one
group clustered by themselves at their true number of classes; clusters, unnamed: numbers of
clusters; rounds: of learning.
"""

Row = dict[str, Any]
REFERENCES = ("transclip", "k-means")
"""Methods of rows that every dataset gets; see `reference_rows`."""


def cluster_rows(cell: DiscoveryCell, found: Discovered) -> list[Row]:
    """Of CLUSTERS."""
    return [
        {
            **_said(cell),
            "cluster": n.cluster,
            "images": n.images,
            "name": n.name,
            "by": n.by,
            "candidate": n.candidate,
            "similarity": n.similarity,
            "margin": n.margin,
        }
        for n in found.named
    ]


def assignment_rows(cell: DiscoveryCell, found: Discovered) -> list[Row]:
    """Of ASSIGNMENTS."""
    clusters = found.problem.parts(found.clustering.labels)[0].tolist()
    names, confidence = image_names(found)
    images = zip(found.ids, clusters, names, confidence, strict=True)
    return [
        {**_said(cell), "image": image, "cluster": cluster, "name": name, "confidence": sure}
        for image, cluster, name, sure in images
    ]


def image_names(found: Discovered) -> tuple[list[str], list[float]]:
    """Name of each unlabelled image, "" for none, and its confidence."""
    if found.learned is None:
        name = {n.cluster: n.name for n in found.named}
        clusters = found.problem.parts(found.clustering.labels)[0].tolist()
        return [name[cluster] for cluster in clusters], [0.0] * len(clusters)
    names = [*found.learned.names, ""]  # NONE, -1, is the last one
    return [names[k] for k in found.learned.assigned.tolist()], found.learned.confidence.tolist()


def discovery_rows(tasks: Tasks, cell: DiscoveryCell, found: Discovered) -> list[Row]:
    """Of METRICS: clustering, naming, and accuracy on test images: CLIP's own where no name was
    learned, for a cell that found nothing counts, too."""
    encoded, rows = tasks.encoded[cell.dataset], []
    labels, groups = _truth(encoded, found.ids)
    names = np.array(encoded.names("all"), dtype=object)[labels]
    clusters = found.problem.parts(found.clustering.labels)[0].numpy()
    given = {n.cluster: n.name for n in found.named}
    hits = {
        "clustering": joint_hits(clusters, labels),
        "naming": np.array([given[cluster] for cluster in clusters.tolist()], object) == names,
        "assigned": np.array(image_names(found)[0], object) == names,
    }
    for measure, hit in hits.items():
        for space in SPACES:
            part = hit[(groups == space) | (space == "all")]
            if len(part):
                rows.append(_row(cell, measure, space, float(part.mean()), len(part)))
    numbers = {
        "clusters": found.clustering.clusters,
        "unnamed": sum(n.by == "none" for n in found.named),
        "rounds": len(found.learned.changed) if found.learned else 0,
    }
    rows += [_row(cell, name, "all", number, len(clusters)) for name, number in numbers.items()]
    hyper = cell.config.learning.fsnl
    model = found.learned.model if found.learned else untaught(found.problem, hyper, cell.seed)
    return rows + accuracy_rows(model, encoded, cell.name, cell.seed)


def baseline_rows(tasks: Tasks, cell: Cell, seed: int) -> list[Row]:
    """Of METRICS: a method that is fitted as in a search, on test images."""
    ((model, outcome),) = fit_cell(tasks, cell, seed, [{}], None)
    if model is None:
        raise RuntimeError(f"{cell.key}, seed {seed}: {outcome.error}")
    return accuracy_rows(model, tasks.encoded[cell.dataset], cell.name, seed)


def reference_rows(tasks: Tasks, dataset: str, seeds: Sequence[int]) -> list[Row]:
    """Of METRICS: TransCLIP, and how each group's images cluster by themselves.

    As published, TransCLIP is given the test images of a label space, all at once and unlabelled,
    and that space's names; nothing of it is random, so the first seed stands for all of them.
    k-means is given a group's training images and its number of classes.
    """
    encoded = tasks.encoded[dataset]
    rows = []
    for space in SPACES:
        names = encoded.names(space)
        if not names:
            continue
        test = encoded.of_concepts(encoded.store.features("test"), space)
        which = templates("hand", encoded.dataset.template)
        text = text_classifier(tasks.clip, names, which)
        answers = transclip(class_tokens(test.clean[:, :1]), text, tasks.clip.logit_scale)
        right = _share(answers.argmax(dim=1) == test.labels)
        rows.append(_measured(dataset, "transclip", seeds[0], "accuracy", space, right, len(test)))
        if space != "all":
            train = encoded.of_concepts(encoded.store.features("train"), space)
            features, labels = class_tokens(train.clean[:, :1]), train.labels.numpy()
            for seed in seeds:
                share = clustering_accuracy(k_means(features, len(names), seed).numpy(), labels)
                rows.append(_measured(dataset, "k-means", seed, "alone", space, share, len(train)))
    return rows


def accuracy_rows(model: Adapted, encoded: EncodedDataset, method: str, seed: int) -> list[Row]:
    """Of METRICS: accuracy on test images of every label space that the model can answer in."""
    own = [space for space in SPACES if encoded.names(space) == model.card.names][:1]
    spaces = label_spaces("all", True) if model.open_vocabulary else own
    rows = []
    for space, counts in test_confusions(model, encoded, spaces).items() if spaces else ():
        images = int(counts.sum())
        share = int(counts.trace()) / images
        rows.append(_measured(encoded.dataset.name, method, seed, "accuracy", space, share, images))
    return rows


def _truth(encoded: EncodedDataset, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of these training images."""
    index = encoded.store.index["train"]
    label = dict(zip(index["id"].to_pylist(), index["label"].to_pylist(), strict=True))
    labels = np.array([label[row] for row in ids], dtype=np.int64)
    groups = np.array([concept.group for concept in encoded.dataset.concepts])
    return labels, groups[labels]


def _share(hits: Tensor) -> float:
    return hits.float().mean().item()


def _said(cell: DiscoveryCell) -> Row:
    return {"dataset": cell.dataset, "discovery": cell.name, "seed": cell.seed}


def _row(cell: DiscoveryCell, measure: str, space: str, value: float, images: int) -> Row:
    return _measured(cell.dataset, cell.name, cell.seed, measure, space, value, images)


def _measured(
    dataset: str, method: str, seed: int, measure: str, space: str, value: float, images: int
) -> Row:
    return {
        "dataset": dataset,
        "method": method,
        "seed": seed,
        "measure": measure,
        "label_space": space,
        "value": value,
        "images": images,
    }
