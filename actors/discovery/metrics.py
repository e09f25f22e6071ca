"""What a discovery is worth, measured after everything else.

Labels of unlabelled images and the test split are opened here alone.
"""

from collections.abc import Mapping, Sequence
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
Name = tuple[str, int | None]
"""A given name, "" for none, and the place of the known concept that it is, if it is one."""

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
    names, learned = _learned_names(discovered), discovered.learned
    confidences = learned.confidence.tolist() if learned else [0.0] * len(names)
    return [name for name, _ in names], confidences


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
    known, place = _known_labels(encoded, discovered), model.card.names.index
    own = {
        label: place(concept.name)
        for label, concept in enumerate(encoded.dataset.concepts)
        if label not in known and concept.name in model.card.names
    }
    return rows + score_rows(model, encoded, cell.name, cell.seed, own)


def baseline_rows(tasks: Tasks, cell: Cell, seed: int) -> list[dict[str, Any]]:
    """Of METRICS: a method that is fitted as in a search, on test images."""
    device = str(tasks.clip.mean.device)
    ((model, outcome),) = fit_cell(tasks, cell, seed, [{}], None, device)
    if model is None:
        raise RuntimeError(f"{cell.key}, seed {seed}: {outcome.error}")
    encoded = tasks.encoded[cell.dataset]
    own = {label: place for place, label in enumerate(encoded.labels(cell.config.concepts))}
    return score_rows(model, encoded, cell.name, seed, own)


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
        features = class_tokens(test.inputs("class token")).to(text.device)
        answers = transclip(features, text, tasks.clip.logit_scale).cpu()
        key = {"dataset": dataset, "method": "transclip", "seed": seeds[0]}
        rows += [key | score for score in scores({space: Answers(answers, test.labels)})]
        if space != "all":
            train = encoded.of_concepts(encoded.store.features("train"), space)
            features, labels = class_tokens(train.inputs("class token")), train.labels.numpy()
            for seed in seeds:
                group = Clusters(k_means(features, len(names), seed).numpy(), labels)
                key = {"dataset": dataset, "method": "k-means", "seed": seed}
                of_group = measure_rows(OF_GROUPS, space, group, len(train))
                rows += [key | row for row in of_group]
    return rows


def score_rows(
    model: Adapted, encoded: EncodedDataset, method: str, seed: int, own: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Of METRICS: scores on test images in every label space that the model can answer in.

    own: labels of the classes that the model was taught, each with its place among those.
    """
    learned = [space for space in SPACES if encoded.labels(space) == list(own)][:1]
    spaces = label_spaces("all", True) if model.open_vocabulary else learned
    key = {"dataset": encoded.dataset.name, "method": method, "seed": seed}
    answers = answers_on_test(model, encoded, spaces, own) if spaces else {}
    return [key | score for score in scores(answers)]


def _unlabelled(encoded: EncodedDataset, discovered: Discovered) -> tuple[Unlabelled, np.ndarray]:
    """The unlabelled images beside what they are, and the group of each."""
    index = encoded.store.index["train"]
    label = dict(zip(index["id"].to_pylist(), index["label"].to_pylist(), strict=True))
    labels = np.array([label[row] for row in discovered.ids], dtype=np.int64)
    known = _known_labels(encoded, discovered)
    concepts = encoded.dataset.concepts

    def right(names: Sequence[Name]) -> np.ndarray:
        """(N,) bool: a known concept is its own class alone, another name an unknown class."""
        pairs = zip(names, labels.tolist(), strict=True)
        return np.array(
            [
                name == concepts[label].name
                and (label not in known if place is None else known[place] == label)
                for (name, place), label in pairs
            ],
            dtype=bool,
        )

    images = Unlabelled(
        joint_hits(_clusters(discovered), labels),
        right(_cluster_names(discovered)),
        right(_learned_names(discovered)),
    )
    return images, np.array([concept.group for concept in concepts])[labels]


def _known_labels(encoded: EncodedDataset, discovered: Discovered) -> list[int]:
    """Labels of the problem's known concepts, in their order."""
    return encoded.labels("IP") if discovered.problem.known_names else []


def _clusters(discovered: Discovered) -> np.ndarray:
    return discovered.problem.parts(discovered.clustering.labels)[0].numpy()


def _cluster_names(discovered: Discovered) -> list[Name]:
    """Of each unlabelled image that of its cluster."""
    name = {n.cluster: (n.name, n.known) for n in discovered.named}
    return [name[cluster] for cluster in _clusters(discovered).tolist()]


def _learned_names(discovered: Discovered) -> list[Name]:
    """Of each unlabelled image its own after the last round; its cluster's if none was learned."""
    learned = discovered.learned
    if learned is None:
        return _cluster_names(discovered)
    names: list[Name] = [*zip(learned.names, learned.known, strict=True), ("", None)]  # NONE is -1
    return [names[k] for k in learned.assigned.tolist()]


def _key(cell: DiscoveryCell) -> dict[str, Any]:
    return {"dataset": cell.dataset, "discovery": cell.name, "seed": cell.seed}
