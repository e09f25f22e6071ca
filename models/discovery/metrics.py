"""How well clusters are classes: one matching for all images, whichever part is looked at."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def joint_hits(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which images lie in the cluster that is matched with their class: (N,) bool.

    clusters, labels: (N,) integers, any numbers. Clusters and classes are matched one to one so
    that the hits are as many as can be; a cluster or class too many stays alone. Accuracies of
    parts (old classes, new classes) are means over parts of these hits, never matchings of their
    own. Source: clustering accuracy of generalized category discovery (Vaze et al., 2022).
    """
    cluster_ids, cluster = np.unique(clusters, return_inverse=True)
    label_ids, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(cluster_ids), len(label_ids)), dtype=np.int64)
    np.add.at(counts, (cluster, label), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    matched = np.full(len(cluster_ids), -1)
    matched[rows] = columns
    return matched[cluster] == label


def clustering_accuracy(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images in the cluster of their class; see `joint_hits`."""
    return float(joint_hits(clusters, labels).mean())
