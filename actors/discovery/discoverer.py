"""Discoverers: one dataset and seed, from features to named clusters and learned names.

What clusters and names gets a `Problem`, in which no label of an unlabelled image is; what measures
(`actors.discovery.metrics`) comes after it and changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jsonargparse.typing import NonNegativeInt
from torch import Tensor

from actors.search.tasks import EncodedDataset, Tasks
from cluster.catalog.names import shown_name
from cluster.catalog.splits import draw_shots
from cluster.errors import ConfigError
from cluster.rows import slug
from cluster.text_files import read_lines
from models.discovery.clustering import Clustering, ClusteringHyper, cluster
from models.discovery.naming import NamedCluster, NamingHyper, name_clusters
from models.discovery.problem import Problem
from models.discovery.zsnl import LearnedNames, LearningHyper, learn_names
from models.methods.fsnl import Fsnl
from models.methods.needs import require_method

OWN, EVERY = "own", "every"


@dataclass(frozen=True, kw_only=True)
class DiscoveryConfig:
    """One way to discover, a line of the result table."""

    candidates: str = EVERY
    """Names that a cluster may get: "own", those of the dataset's classes; "every", those of all
    datasets of the job; else a text file with a name a line. Known names are always among them."""
    labelled: NonNegativeInt = 8
    """Labelled training images of each IP class, drawn by the seed; with 0 nothing is known, and
    IP images are unlabelled like the others."""
    clustering: ClusteringHyper = field(default_factory=ClusteringHyper)
    naming: NamingHyper = field(default_factory=NamingHyper)
    learning: LearningHyper = field(default_factory=LearningHyper)


@dataclass(frozen=True)
class DiscoveryCell:
    """One dataset, one way, one seed."""

    dataset: str
    name: str
    """Of the way, as result tables show it."""
    seed: int
    config: DiscoveryConfig
    names: tuple[str, ...] | None
    """Candidates that were read from a file."""

    @property
    def key(self) -> str:
        """A safe file name that no other cell of a job has."""
        return f"{slug(self.dataset)}--{slug(self.name)}--{self.seed}"  # a slug has no "--"


@dataclass(frozen=True, eq=False)
class Discovered:
    """What a cell found: clusters, their names, and the learned names.

    ids: of the unlabelled images, in the problem's order.
    """

    problem: Problem
    ids: list[str]
    clustering: Clustering
    named: list[NamedCluster]
    learned: LearnedNames | None


def discover(tasks: Tasks, cell: DiscoveryCell) -> Discovered:
    """Clusters a cell's images, names the clusters, learns the names.

    Of labels it sees those of the cell's labelled images and of known validation images. The test
    split stays closed.
    """
    config, (problem, ids) = cell.config, discovery_problem(tasks, cell)
    try:
        clustering = cluster(problem, config.clustering, cell.seed)
        named = name_clusters(problem, clustering, config.naming)
        learned = learn_names(problem, clustering, named, config.learning, cell.seed)
    except ValueError as error:
        raise ConfigError(f"discoveries.{cell.name} on {cell.dataset}: {error}") from error
    return Discovered(problem, ids, clustering, named, learned)


def discovery_problem(tasks: Tasks, cell: DiscoveryCell) -> tuple[Problem, list[str]]:
    """The problem of a cell, and the ids of its unlabelled images in order.

    Labels and groups are read for the drawn labelled images and for val alone; the unlabelled ones
    are all other training images, in order of id, which says nothing of their class.
    """
    encoded = tasks.encoded[cell.dataset]
    dataset, store = encoded.dataset, encoded.store
    train = store.features("train")
    place = store.places("train")
    labelled_ids: list[str] = []
    known_names = _known_names(encoded, cell.config)
    val = encoded.of_concepts(store.rows("val", []), "IP")
    if known_names:
        shots = draw_shots(dataset, cell.config.labelled, cell.seed, "full", "IP")
        labelled_ids = [row for row in shots.train_ids if row in place]
        val = encoded.of_concepts(store.rows("val", shots.val_ids), "IP")
    ids = sorted(place.keys() - set(labelled_ids))
    known = encoded.of_concepts(store.rows("train", labelled_ids), "IP")
    problem = Problem(
        dataset=cell.dataset,
        hint=dataset.hint,
        template=dataset.template,
        clip=tasks.clip,
        tokens=train.stored,
        unlabelled=torch.tensor([place[row] for row in ids], dtype=torch.int64),
        labelled=torch.tensor([place[row] for row in labelled_ids], dtype=torch.int64),
        labels=known.labels,
        val=val.clean,
        val_labels=val.labels,
        known_names=known_names,
        candidates=candidate_names(cell, tasks.encoded, known_names),
        imagined=imagined_images(tasks.encoded.values()),
    )
    return problem, ids


def _known_names(encoded: EncodedDataset, config: DiscoveryConfig) -> list[str]:
    """Names of the IP classes, if some of their images are labelled."""
    return encoded.names("IP") if config.labelled and encoded.dataset.labelled else []


def candidate_names(
    cell: DiscoveryCell, encoded: Mapping[str, EncodedDataset], known: Iterable[str]
) -> list[str]:
    """Known names and the cell's candidates, each once, in an order that says nothing."""
    if cell.names is not None:
        names = set(cell.names)
    else:
        of_dataset = cell.config.candidates == OWN
        sources = [encoded[cell.dataset]] if of_dataset else list(encoded.values())
        names = {name for e in sources if e.dataset.labelled for name in e.names("all")}
    return sorted(names | set(known))


def require_runnable(tasks: Tasks, cell: DiscoveryCell, where: str) -> None:
    """Refuses a cell that cannot be run.

    ConfigError, naming the field, if it has no candidates, no number of clusters and no way to
    estimate it, no labelled images to draw, or not the tokens or the text tower that it reads.
    """
    encoded, config = tasks.encoded[cell.dataset], cell.config
    try:
        require_method(tasks.clip, f"{where}.learning", Fsnl.name, config.learning.fsnl, ())
    except ValueError as error:
        raise ConfigError(str(error)) from error
    known = _known_names(encoded, config)
    if not candidate_names(cell, tasks.encoded, known):
        raise ConfigError(
            f"{where}.candidates: {config.candidates!r} has no name for dataset {cell.dataset!r}; "
            "allowed: a text file with a name a line"
        )
    if config.clustering.clusters is None and not known:
        raise ConfigError(
            f"{where}.clustering.clusters: none, and dataset {cell.dataset!r} has no labelled IP "
            "images to estimate it on; allowed: a number"
        )
    if config.clustering.way == "mean_shift":
        encoded.store.require_patches(f"{where}.clustering.way")
    if known:
        draw_shots(encoded.dataset, config.labelled, cell.seed, "full", "IP")


def read_candidates(which: str, where: str) -> tuple[str, ...] | None:
    """The names of a file, each once; None for "own" and "every". ConfigError if it has none."""
    if which in (OWN, EVERY):
        return None
    lines = read_lines(which, where, "own, every, or a text file with a name a line")
    names = tuple(dict.fromkeys(name for line in lines if (name := shown_name(line))))
    if not names:
        raise ConfigError(f"{where}: {which!r} has no name; allowed: a name a line")
    return names


def imagined_images(encoded: Iterable[EncodedDataset]) -> dict[str, Tensor]:
    """Name to the class tokens (n, D) of the images imagined from it, over all datasets."""
    images: dict[str, list[Tensor]] = {}
    for of_dataset in encoded:
        imagined = of_dataset.store.features("imagined")
        class_tokens = imagined.without_patches[0, :, 0]
        for label, name in enumerate(of_dataset.names("all")):
            rows = (imagined.labels == label).nonzero().squeeze(1)
            if len(rows):
                images.setdefault(name, []).append(class_tokens[rows])
    return {name: torch.cat(parts) for name, parts in images.items()}
