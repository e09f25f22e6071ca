"""What a discovery is worth, measured after everything else.

Labels of unlabelled images and the test split are opened here alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.discovery.discoverer import Discovered, DiscoveryCell
from actors.discovery.measures import OF_CELLS, OF_GROUPS, OF_IMAGES, Clusters, Unlabelled
from actors.search.cells import Cell
from actors.search.evaluator import answers_on_test, label_spaces
from actors.search.measures import Answers, measure_rows, scores
from actors.search.tasks import EncodedDataset, Tasks
from actors.search.trials import fit_cell
from cluster.catalog.splits import Concepts
from models.discovery.metrics import joint_hits
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
"""One row per measure and label space: those of `actors.search.measures` on test images, each label
space by itself, and those of `actors.discovery.measures` on training images."""

REFERENCES = ("transclip", "k-means")
"""Methods of rows that every dataset gets; see `reference_rows`."""


def cluster_rows(cell: DiscoveryCell, discovered: Discovered) -> list[dict[str, Any]]:
    """Of CLUSTERS."""
    return [
        {
            **_key(cell),
            "cluster": n.cluster,
            "images": n.images,
            "name": n.name,
            "by": n.by,
            "candidate": n.candidate,
            "similarity": n.similarity,
            "margin": n.margin,
        }
        for n in discovered.named
    ]


def assignment_rows(cell: DiscoveryCell, discovered: Discovered) -> list[dict[str, Any]]:
    """Of ASSIGNMENTS."""
    clusters = _clusters(discovered).tolist()
    names, confidences = image_names(discovered)
    images = zip(discovered.ids, clusters, names, confidences, strict=True)
    return [
        {**_key(cell), "image": image, "cluster": cluster, "name": name, "confidence": confidence}
        for image, cluster, name, confidence in images
    ]


def image_names(discovered: Discovered) -> tuple[list[str], list[float]]:
    """Name of each unlabelled image, "" for none, and its confidence."""
    learned = discovered.learned
    if learned is None:
        names = _cluster_names(discovered)
        return names, [0.0] * len(names)
    names = [*learned.names, ""]  # NONE, -1, is the last one
    return [names[k] for k in learned.assigned.tolist()], learned.confidence.tolist()


def discovery_rows(
    tasks: Tasks, cell: DiscoveryCell, discovered: Discovered
) -> list[dict[str, Any]]:
    """Of METRICS: what was found of unlabelled images, and scores on test images.

    Where no name was learned the scores are CLIP's own: a cell that found nothing counts, too.
    """
    encoded, rows = tasks.encoded[cell.dataset], []
    images, groups = _unlabelled(encoded, discovered)
    key = {"dataset": cell.dataset, "method": cell.name, "seed": cell.seed}
    for space in SPACES:
        here = (groups == space) | (space == "all")
        if here.any():
            part, count = images.of(here), int(here.sum())
            rows += [key | row for row in measure_rows(OF_IMAGES, space, part, count)]
    of_cell = measure_rows(OF_CELLS, "all", discovered, len(groups))
    rows += [key | row for row in of_cell]
    hyper = cell.config.learning.fsnl
    learned = discovered.learned
    model = learned.model if learned else untaught(discovered.problem, hyper, cell.seed)
    return rows + score_rows(model, encoded, cell.name, cell.seed)


def baseline_rows(tasks: Tasks, cell: Cell, seed: int) -> list[dict[str, Any]]:
    """Of METRICS: a method that is fitted as in a search, on test images."""
    ((model, outcome),) = fit_cell(tasks, cell, seed, [{}], None)
    if model is None:
        raise RuntimeError(f"{cell.key}, seed {seed}: {outcome.error}")
    return score_rows(model, tasks.encoded[cell.dataset], cell.name, seed)


def reference_rows(tasks: Tasks, dataset: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
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
        logits = transclip(class_tokens(test.clean[:, :1]), text, tasks.clip.logit_scale)
        key = {"dataset": dataset, "method": "transclip", "seed": seeds[0]}
        rows += [key | score for score in scores({space: Answers(logits, test.labels)})]
        if space != "all":
            train = encoded.of_concepts(encoded.store.features("train"), space)
            features, labels = class_tokens(train.clean[:, :1]), train.labels.numpy()
            for seed in seeds:
                group = Clusters(k_means(features, len(names), seed).numpy(), labels)
                key = {"dataset": dataset, "method": "k-means", "seed": seed}
                of_group = measure_rows(OF_GROUPS, space, group, len(train))
                rows += [key | row for row in of_group]
    return rows


def score_rows(
    model: Adapted, encoded: EncodedDataset, method: str, seed: int
) -> list[dict[str, Any]]:
    """Of METRICS: scores on test images in every label space that the model can answer in."""
    learned = [space for space in SPACES if encoded.names(space) == model.card.names][:1]
    spaces = label_spaces("all", True) if model.open_vocabulary else learned
    key = {"dataset": encoded.dataset.name, "method": method, "seed": seed}
    answers = answers_on_test(model, encoded, spaces) if spaces else {}
    return [key | score for score in scores(answers)]


def _unlabelled(encoded: EncodedDataset, discovered: Discovered) -> tuple[Unlabelled, np.ndarray]:
    """The unlabelled images beside what they are, and the group of each."""
    index = encoded.store.index["train"]
    label = dict(zip(index["id"].to_pylist(), index["label"].to_pylist(), strict=True))
    labels = np.array([label[row] for row in discovered.ids], dtype=np.int64)
    images = Unlabelled(
        joint_hits(_clusters(discovered), labels),
        np.array(_cluster_names(discovered), object),
        np.array(image_names(discovered)[0], object),
        np.array(encoded.names("all"), object)[labels],
    )
    return images, np.array([concept.group for concept in encoded.dataset.concepts])[labels]


def _clusters(discovered: Discovered) -> np.ndarray:
    return discovered.problem.parts(discovered.clustering.labels)[0].numpy()


def _cluster_names(discovered: Discovered) -> list[str]:
    """Of each unlabelled image, "" for none."""
    name = {n.cluster: n.name for n in discovered.named}
    return [name[cluster] for cluster in _clusters(discovered).tolist()]


def _key(cell: DiscoveryCell) -> dict[str, Any]:
    return {"dataset": cell.dataset, "discovery": cell.name, "seed": cell.seed}
