"""Names of clusters: by known images in them, and by the candidate names most like them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jsonargparse.typing import PositiveInt
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from models.discovery.clustering import Clustering
from models.discovery.problem import Problem
from models.text_classifier import templates, text_classifier

Source = Literal["text", "imagined"]
"""What a name is compared by. text: the ensemble of its texts. imagined: the mean of the images
that were imagined from it, which can tell what a name means to a text tower that never saw it."""
By = Literal["labelled", "text", "imagined", "none"]
"""What gave a cluster its name; labelled: known images in it."""


@dataclass(frozen=True, kw_only=True)
class NamingHyper:
    """How clusters are named."""

    by: Source = "text"
    """Texts of the candidate names, or images imagined from them."""
    min_margin: float | None = 0.0
    """Cosine by which a cluster's name must be ahead of its next best one; with less a cluster
    stays unnamed. None: every name that is assigned is given."""
    min_images: PositiveInt = 4
    """Unlabelled images that a cluster must have to get a name by likeness."""


@dataclass(frozen=True)
class NamedCluster:
    """One cluster, and the name that it got or nearly got."""

    cluster: int
    """Number of the cluster in the clustering."""
    images: int
    """Number of unlabelled images in it."""
    candidate: str
    """Name that the assignment gives it, "" if none is left."""
    similarity: float
    """Cosine of the candidate; if it is a known name, the share of its images that lie in it."""
    margin: float
    """Cosine by which the candidate is ahead of the next best name; 0 if it is a known name."""
    by: By
    """What gave the name; "none" if the cluster stays unnamed."""
    known: int | None = None
    """Place of the known concept that it is, which another concept may be called like."""

    @property
    def name(self) -> str:
        """The given name, "" for an unnamed cluster."""
        return "" if self.by == "none" else self.candidate


def name_clusters(
    problem: Problem, clustering: Clustering, hyper: NamingHyper
) -> list[NamedCluster]:
    """Every cluster that has an image, in order of its number, named or not.

    A cluster with more than half of the labelled images of a known concept is that concept (one
    cluster for one concept, so that the images are as many as can be). The others are matched with
    the names of no known concept so that the sum of similarities is largest; there may be more
    names than clusters or fewer. Known names are not among them: one that was given to a cluster of
    something else would be learned anew from its images. Numbers of clusters stay as they are, gaps
    and all. Raises ValueError if images are to be compared and a candidate has none.
    """
    unlabelled, labelled, _ = problem.parts(clustering.labels)
    sizes = unlabelled.bincount(minlength=clustering.clusters)
    present = clustering.labels.unique().tolist()
    by_cluster = {
        cluster: NamedCluster(
            cluster, int(sizes[cluster]), problem.known_names[known], share, 0.0, "labelled", known
        )
        for cluster, (known, share) in known_clusters(problem, labelled).items()
    }
    open_clusters = [
        c for c in present if c not in by_cluster and int(sizes[c]) >= hyper.min_images
    ]
    names = [name for name in dict.fromkeys(problem.candidates) if name not in problem.known_names]
    if open_clusters and names:
        features = problem.pool[: len(unlabelled)]
        means = torch.stack([features[unlabelled == c].mean(dim=0) for c in open_clusters])
        cosines = normalize(means, dim=-1) @ _directions(problem, names, hyper.by).T
        for row, (column, margin) in assigned(cosines).items():
            sure = hyper.min_margin is None or margin >= hyper.min_margin
            cluster, cosine = open_clusters[row], cosines[row, column].item()
            by: By = hyper.by if sure else "none"
            by_cluster[cluster] = NamedCluster(
                cluster, int(sizes[cluster]), names[column], cosine, margin, by
            )
    return [
        by_cluster.get(c, NamedCluster(c, int(sizes[c]), "", 0.0, 0.0, "none")) for c in present
    ]


def known_clusters(problem: Problem, labelled: Tensor) -> dict[int, tuple[int, float]]:
    """Cluster to the known concept whose images it holds, and their share of that one's images.

    A concept is its place among the known names, of which two may be equal.

    labelled: (L,) int64, the clusters of the labelled images.
    """
    if not len(labelled):
        return {}
    counts = torch.zeros(int(labelled.max()) + 1, len(problem.known_names))
    counts.index_put_((labelled, problem.labels), torch.ones(len(labelled)), accumulate=True)
    shares = counts / counts.sum(dim=0).clamp(min=1)
    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    return {
        row: (column, shares[row, column].item())
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if shares[row, column] > 0.5
    }


def assigned(similarities: Tensor) -> dict[int, tuple[int, float]]:
    """Row to its column and margin, for a sum of similarities that is largest; (R, C) float.

    The margin is the similarity minus the largest of another column in that row: negative where the
    row's best column went to another row; infinite if there is no other column. Rows beyond the
    number of columns are left out.
    """
    rows, columns = linear_sum_assignment(similarities.numpy(), maximize=True)
    pairs = {}
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        others = similarities[row].clone()
        others[column] = -torch.inf
        pairs[row] = column, (similarities[row, column] - others.max()).item()
    return pairs


def _directions(problem: Problem, names: Sequence[str], by: Source) -> Tensor:
    """(C, D) unit vectors that stand for names."""
    if by == "text":
        which = templates("ensemble", problem.template)
        return text_classifier(problem.clip, names, which).cpu()
    for name in names:
        if name not in problem.imagined:
            raise ValueError(
                f"naming.by: 'imagined', but no image of candidate {name!r} is there; allowed: "
                "text, or features with imagined images of all candidates"
            )
    images = [normalize(problem.imagined[name].float(), dim=-1) for name in names]
    return normalize(torch.stack([features.mean(dim=0) for features in images]), dim=-1)
