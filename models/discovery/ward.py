"""Ward's linkage of images: exact up to a number of them, of groups of images beyond it."""

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans, MiniBatchKMeans
from torch import Tensor

from kernels.ward import ward_tree

GROUPING_BATCH = 8192


class WardTree:
    """All cuts of one tree over N images.

    Beyond `points` images, mini-batch k-means first puts them into `points` groups, and the tree is
    Ward's over the groups with their sizes and means: exact but for images that share a group, in
    memory points² float64 instead of N². `python -m jobs.bench discovery` measures the difference.
    """

    def __init__(self, features: Tensor, points: int, seed: int) -> None:
        """features: (N, D) float32."""
        self.groups = torch.arange(len(features))
        centres, sizes = features, torch.ones(len(features))
        if len(features) > points:
            group = MiniBatchKMeans(
                points, batch_size=GROUPING_BATCH, n_init=1, random_state=seed, max_iter=20
            ).fit_predict(features.numpy())
            # numbered anew, for a group may be empty
            self.groups = torch.from_numpy(np.unique(group, return_inverse=True)[1]).long()
            sizes = self.groups.bincount().float()
            sums = torch.zeros(len(sizes), features.shape[1]).index_add_(0, self.groups, features)
            centres = sums / sizes[:, None]
        self.merges, self.heights = ward_tree(centres, sizes)

    @property
    def most(self) -> int:
        """Clusters that it can be cut into at most."""
        return len(self.merges) + 1

    def cut(self, clusters: int) -> Tensor:
        """(N,) int64 in [0, clusters). Raises ValueError for more clusters than `most`."""
        if not 1 <= clusters <= self.most:
            raise ValueError(f"clusters: {clusters}; allowed: 1 to {self.most}")
        a, b = self.merges[: self.most - clusters].numpy().T
        graph = coo_array((np.ones(len(a)), (a, b)), shape=(self.most, self.most))
        _, cluster = connected_components(graph, directed=False)
        return torch.from_numpy(cluster).long()[self.groups]


def k_means(features: Tensor, clusters: int, seed: int) -> Tensor:
    """(N, D) float32 to clusters (N,) int64: the best of ten runs of k-means."""
    if clusters > len(features):
        raise ValueError(f"clusters: {clusters}; allowed: at most {len(features)}, the images")
    group = KMeans(clusters, n_init=10, random_state=seed).fit_predict(features.numpy())
    return torch.from_numpy(group).long()
