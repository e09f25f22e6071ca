"""Ward's linkage of points that have weights: the whole tree of merges, by a chain of neighbours.

N points, D channels. SciPy has it for points of weight 1 only; here a point may stand for a group
of images, so that a tree over groups is Ward's over the images, with the groups for its leaves.
"""

import torch
from torch import Tensor


def ward_tree(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Merges (N - 1, 2) int64 and their heights (N - 1,) float64, lowest first.

    points: (N, D) float; weights: (N,), > 0, how many images each one is the mean of. A merge names
    one point of either side; the first N - K merges, as edges of a graph, leave K clusters.
    The height is sqrt(2 a b / (a + b)) times the distance of the means of clusters with weights a
    and b: for weights 1, SciPy's. Exact; memory N² float64, time N². Source: Ward (1963) with the
    update of Lance and Williams (1967), along nearest-neighbour chains (Murtagh, 1983).
    """
    count = len(points)
    exact, weight = points.double(), weights.double().clone()
    squared = torch.cdist(exact, exact).square_()
    # by rows, so that it is held but once
    for row, row_weight in zip(squared, weight, strict=True):
        row *= 2 * row_weight * weight / (row_weight + weight)
    squared.fill_diagonal_(torch.inf)
    merges, heights = [], []
    chain: list[int] = []
    alive = torch.ones(count, dtype=torch.bool)
    for _ in range(count - 1):
        if not chain:
            chain.append(int(alive.nonzero()[0]))
        while True:
            last = chain[-1]
            nearest = int(squared[last].argmin())
            # The one it came from wins a tie, else the chain could go round for ever.
            if len(chain) > 1 and squared[last, chain[-2]] <= squared[last, nearest]:
                break
            chain.append(nearest)
        a, b = chain.pop(), chain.pop()
        merges.append((a, b))
        heights.append(squared[a, b].sqrt())
        _merge(squared, weight, a, b)
        alive[a] = False
    if not merges:
        return torch.empty(0, 2, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    order = torch.stack(heights).sort(stable=True)
    return torch.tensor(merges)[order.indices], order.values


def _merge(squared: Tensor, weight: Tensor, a: int, b: int) -> None:
    """Cluster b becomes the two together, a is no more."""
    both = weight[a] + weight[b]
    merged = (
        (weight[a] + weight) * squared[a] + (weight[b] + weight) * squared[b]
    ) - weight * squared[a, b]
    merged /= both + weight
    merged[b] = torch.inf  # a's own entry is infinite already, through its diagonal
    squared[b], squared[:, b] = merged, merged
    squared[a], squared[:, a] = torch.inf, torch.inf
    weight[b] = both
