"""What is measured of a discovery on training images; on test images: `actors.search.measures`.

An entry here is in the metrics and on the page of a discovery, with no further line.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.discovery.discoverer import Discovered
from actors.search.measures import Measure, by_name
from models.discovery.metrics import clustering_accuracy


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """What was found of N unlabelled images, beside what they are. Arrays are (N,)."""

    in_place: np.ndarray
    """bool: in the cluster that is matched with the image's class, one matching for all classes."""
    named: np.ndarray
    """bool: the cluster's name is the class's; see `actors.discovery.metrics`."""
    learned: np.ndarray
    """bool: the image's own name after the last round is the class's."""

    def of(self, images: np.ndarray) -> "Unlabelled":
        """images: (N,) bool."""
        return Unlabelled(self.in_place[images], self.named[images], self.learned[images])


@dataclass(frozen=True, eq=False)
class Clusters:
    """Images of one group clustered by themselves, at their true number of classes. (N,) int64."""

    clusters: np.ndarray
    labels: np.ndarray


OF_IMAGES: dict[str, Measure[Unlabelled]] = by_name(
    Measure(
        "clustering",
        "clustering",
        lambda images: float(images.in_place.mean()),
        note="The share of the images in the cluster that is matched with their class, one "
        "matching for all classes.",
    ),
    Measure(
        "naming",
        "names of clusters",
        lambda images: float(images.named.mean()),
        note="The share of the unlabelled images whose cluster has the name of their class.",
    ),
    Measure(
        "assigned",
        "names after learning",
        lambda images: float(images.learned.mean()),
        note="The share of the unlabelled images that have the name of their class after the last "
        "round.",
    ),
)
OF_CELLS: dict[str, Measure[Discovered]] = by_name(
    Measure("clusters", "clusters", lambda cell: cell.clustering.clusters, unit=""),
    Measure(
        "unnamed", "unnamed clusters", lambda cell: sum(n.by == "none" for n in cell.named), unit=""
    ),
    Measure(
        "rounds",
        "rounds of learning",
        lambda cell: len(cell.learned.changed) if cell.learned else 0,
        unit="",
    ),
)
OF_GROUPS: dict[str, Measure[Clusters]] = by_name(
    Measure(
        "alone",
        "clustering by k-means",
        lambda group: clustering_accuracy(group.clusters, group.labels),
        note="k-means on the frozen features of one group’s training images, at its true number of "
        "classes: how well the images cluster whose names CLIP does not know.",
    ),
)
MEASURES: dict[str, Measure[Any]] = {**OF_IMAGES, **OF_CELLS, **OF_GROUPS}
"""Of training images, by name, in the order of pages."""
