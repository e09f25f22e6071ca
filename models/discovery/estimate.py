"""How many clusters there are, from labelled images of known concepts alone."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from models.discovery.metrics import clustering_accuracy


@dataclass(frozen=True)
class Estimate:
    """A number of clusters, estimated on validation images of known concepts."""

    clusters: int
    """The estimate."""
    accuracy: float
    """Clustering accuracy of the validation images at the estimate, in [0, 1]."""
    curve: tuple[tuple[int, float], ...]
    """(clusters, accuracy) of all numbers that were tried."""


def estimate_clusters(cut: Callable[[int], Tensor], labels: Tensor, most: int) -> Estimate:
    """The number of clusters at which known validation images cluster best.

    cut: number of clusters over all images to the clusters (M,) of the validation images; labels:
    (M,) int64 of theirs. Tried are all numbers from that of the known classes to `most`. Too few
    clusters put two known classes into one, too many tear one apart, so unknown classes are counted
    as finely as known ones. Of equally good numbers the middle one is taken.
    Source: generalized category discovery (Vaze et al., 2022); there the number is searched with
    k-means. Raises ValueError without validation images.
    """
    if not len(labels):
        raise ValueError(
            "clusters: none, but there are no validation images of known concepts to estimate it "
            "on; allowed: a number"
        )
    least = min(len(labels.unique()), most)
    truth = labels.numpy()
    curve = [(k, clustering_accuracy(cut(k).numpy(), truth)) for k in range(least, most + 1)]
    best = max(accuracy for _, accuracy in curve)
    tied = [k for k, accuracy in curve if accuracy == best]
    return Estimate(tied[len(tied) // 2], best, tuple(curve))
