"""The tree is SciPy's, and that of groups is that of their images."""

import numpy as np
import torch
from scipy.cluster.hierarchy import linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kernels.ward import ward_tree


def cut(merges: torch.Tensor, points: int, clusters: int) -> list[frozenset[int]]:
    edges = merges[: points - clusters].numpy()
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(points, points))
    labels = connected_components(graph, directed=False)[1]
    return sorted((frozenset(np.flatnonzero(labels == k).tolist()) for k in set(labels)), key=min)


def test_heights_and_clusters_are_scipys() -> None:
    points = torch.randn(90, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    merges, heights = ward_tree(points, torch.ones(90))
    tree = linkage(points.numpy(), "ward")
    np.testing.assert_allclose(heights.numpy(), tree[:, 2], rtol=1e-10)
    below = [frozenset([i]) for i in range(90)]
    for a, b in tree[:, :2].astype(int):
        below.append(below[a] | below[b])
    for clusters in (1, 2, 7, 40, 90):
        gone = {int(i) for row in tree[: 90 - clusters, :2] for i in row}
        left = [below[i] for i in range(90 + 90 - clusters) if i not in gone]
        assert cut(merges, 90, clusters) == sorted(left, key=min)


def test_a_group_counts_as_its_images() -> None:
    generator = torch.Generator().manual_seed(1)
    groups, size = 12, torch.arange(1, 13)
    centres = torch.randn(groups, 3, generator=generator, dtype=torch.float64)
    images = centres.repeat_interleave(size, dim=0)
    _, whole = ward_tree(images, torch.ones(len(images)))
    merges, heights = ward_tree(centres, size)
    np.testing.assert_allclose(heights.numpy(), whole[-(groups - 1) :].numpy(), rtol=1e-9)
    assert cut(merges, groups, 1) == [frozenset(range(groups))]


def test_one_point_has_no_merges() -> None:
    merges, heights = ward_tree(torch.randn(1, 3), torch.ones(1))
    assert merges.shape == (0, 2)
    assert len(heights) == 0
