"""Clusters of all images of a problem, at a given number of clusters or an estimated one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from models.discovery.estimate import Estimate, estimate_clusters
from models.discovery.mean_shift import (
    PATIENCE,
    MeanShiftHyper,
    Watch,
    embed,
    shifts,
    train_shift_model,
)
from models.discovery.metrics import clustering_accuracy
from models.discovery.problem import Problem
from models.discovery.ward import WardTree, k_means

Way = Literal["k_means", "ward", "mean_shift"]
"""Way of clustering. k_means, ward: on CLIP's frozen features. mean_shift: features trained by
contrastive mean-shift and iterated, then Ward's linkage."""


@dataclass(frozen=True, kw_only=True)
class ClusteringHyper:
    """How images are clustered."""

    way: Way = "k_means"
    clusters: PositiveInt | None = None
    """Clusters over all images, known concepts among them; none: estimated on known validation
    images."""
    most: PositiveInt | None = None
    """Clusters that an estimate may say at most; none: as many as there are candidate names."""
    ward_points: PositiveInt = 4000
    """Images up to which Ward's linkage is exact; more are first put into as many groups."""
    mean_shift: MeanShiftHyper = field(default_factory=MeanShiftHyper)


@dataclass(frozen=True, eq=False)
class Clustering:
    """The clusters of a problem's images."""

    labels: Tensor
    """(U + L + M,) int64 in [0, clusters), in the order of the problem's pool."""
    clusters: int
    """Number of clusters."""
    estimate: Estimate | None
    """Where the number comes from; None if it was a setting."""
    shifts: int = 0
    """Iterations of mean shift that the clusters are of."""


def cluster(
    problem: Problem, hyper: ClusteringHyper, seed: int, watch: Watch | None = None
) -> Clustering:
    """Clusters unlabelled, labelled and val images together.

    Labels are looked at for the number of clusters and the number of shifts (val images) and in
    mean-shift training (labelled images). Raises ValueError if there is no number and no val.
    """
    if hyper.way == "mean_shift":
        return _by_mean_shift(problem, hyper, seed, watch)
    tree = None
    if hyper.way == "ward" or hyper.clusters is None:
        tree = WardTree(problem.pool, hyper.ward_points, seed)
    clusters, estimate = _number(problem, hyper, tree)
    if hyper.way == "ward" and tree:
        return Clustering(tree.cut(clusters), clusters, estimate)
    return Clustering(k_means(problem.pool, clusters, seed), clusters, estimate)


def _by_mean_shift(
    problem: Problem, hyper: ClusteringHyper, seed: int, watch: Watch | None
) -> Clustering:
    """Shifts until val images have not clustered better twice; without val, one shift."""
    model = train_shift_model(problem, hyper.mean_shift, seed, watch)
    train = embed(model, problem.tokens, torch.cat([problem.unlabelled, problem.labelled]))
    val = embed(model, problem.val[None], torch.arange(len(problem.val)))
    most = hyper.mean_shift.shifts if len(val) else 1
    shifted = islice(shifts(torch.cat([train, val]), hyper.mean_shift), most + 1)
    scored: list[tuple[float, Clustering]] = []
    for number, features in enumerate(shifted):
        tree = WardTree(features.cpu(), hyper.ward_points, seed)
        clusters, estimate = _number(problem, hyper, tree)
        clustering = Clustering(tree.cut(clusters), clusters, estimate, number)
        scored.append((_val_accuracy(problem, clustering), clustering))
        if number - _best(scored).shifts == PATIENCE:
            break
    return _best(scored) if len(val) else clustering


def _best(scored: Sequence[tuple[float, Clustering]]) -> Clustering:
    """The first of the clusterings with the highest accuracy."""
    return max(scored, key=lambda pair: pair[0])[1]


def _val_accuracy(problem: Problem, clustering: Clustering) -> float:
    if not len(problem.val):
        return 0.0
    _, _, clusters = problem.parts(clustering.labels)
    return clustering_accuracy(clusters.numpy(), problem.val_labels.numpy())


def _number(
    problem: Problem, hyper: ClusteringHyper, tree: WardTree | None
) -> tuple[int, Estimate | None]:
    if hyper.clusters is not None:
        return hyper.clusters, None
    assert tree is not None
    most = min(hyper.most or len(problem.candidates), tree.most)
    estimate = estimate_clusters(
        lambda clusters: problem.parts(tree.cut(clusters))[2], problem.val_labels, most
    )
    return estimate.clusters, estimate
