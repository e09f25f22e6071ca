"""Names for images without labels, in this process."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from actors.local.encoded import Encoded
from models.discovery.clustering import Clustering, ClusteringHyper, cluster
from models.discovery.naming import NamedCluster, NamingHyper, name_clusters
from models.discovery.problem import Problem
from models.discovery.zsnl import LearnedNames, LearningHyper, learn_names
from models.methods.adapted import Adapted


@dataclass(frozen=True, eq=False)
class NamedImages:
    """Unlabelled images with the names that they got."""

    ids: list[str]
    """Row ids of the images, in order."""
    names: list[str]
    """Name of each image, "" for one in a cluster that stays unnamed."""
    confidence: list[float]
    """Of that name, in [0, 1]; 0 where there is none or none was learned."""
    clusters: list[NamedCluster]
    """Every cluster with its name, its size and how sure the name is."""
    model: Adapted | None
    """Knows the discovered names; None if no cluster got one."""


def discover(
    encoded: Encoded,
    candidates: Sequence[str],
    *,
    clustering: ClusteringHyper,
    naming: NamingHyper | None = None,
    learning: LearningHyper | None = None,
    seed: int = 0,
) -> NamedImages:
    """Clusters the training images, names the clusters, and learns the names (ZSNL).

    No label is looked at, so `clustering.clusters` must be given. candidates: names that a cluster
    may get; there may be more of them than clusters. Clusters are compared with the names' texts;
    with images imagined from names it is `jobs.discover` that compares. Raises ValueError without a
    number of clusters, with more clusters than images, and for a name without letters.
    """
    problem, ids = _problem(encoded, candidates)
    clusters = cluster(problem, clustering, seed)
    named = name_clusters(problem, clusters, naming or NamingHyper())
    learned = learn_names(problem, clusters, named, learning or LearningHyper(), seed)
    if learned is None:
        return NamedImages(
            ids, _cluster_names(problem, clusters, named), [0.0] * len(ids), named, None
        )
    return NamedImages(ids, _names(learned), learned.confidence.tolist(), named, learned.model)


def _problem(encoded: Encoded, candidates: Sequence[str]) -> tuple[Problem, list[str]]:
    """All training images unlabelled, in order of id, and nothing known."""
    ids, nothing = encoded.ids("train"), torch.empty(0, dtype=torch.int64)
    tokens = encoded.split("train", views=encoded.views).tokens.cpu()
    problem = Problem(
        dataset=encoded.dataset.name,
        hint=encoded.dataset.hint,
        template=encoded.dataset.template,
        clip=encoded.clip,
        tokens=tokens,
        unlabelled=torch.arange(len(ids)),
        labelled=nothing,
        labels=nothing,
        val=tokens[0, :0],
        val_labels=nothing,
        known_names=[],
        candidates=sorted(set(candidates)),
    )
    return problem, ids


def _names(learned: LearnedNames) -> list[str]:
    names = [*learned.names, ""]  # NONE, -1, is the last one
    return [names[k] for k in learned.assigned.tolist()]


def _cluster_names(
    problem: Problem, clusters: Clustering, named: Sequence[NamedCluster]
) -> list[str]:
    name = {one.cluster: one.name for one in named}
    return [name[k] for k in problem.parts(clusters.labels)[0].tolist()]
