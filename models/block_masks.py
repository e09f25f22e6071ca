"""Which patches the student does not see: rectangles, as in BEiT and iBOT."""

import math

import numpy as np

SMALLEST_BLOCK = 4
"""Patches in the smallest rectangle."""
FLATTEST_BLOCK = 0.3
"""Aspect ratio of the flattest rectangle; the tallest is its inverse."""
ATTEMPTS = 10
"""Rectangles tried before a mask is left as it is."""


def draw_masks(
    crops: int,
    grid: tuple[int, int],
    share: float,
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Masks of one batch, (crops, N) bool, True = hidden; grid: rows and columns, N their product.

    share: part of the crops that are masked at all, drawn without replacement. ratio: lowest and
    highest part of patches hidden in one; the range is cut in as many strata as there are masked
    crops, so that every batch has light and heavy masks.
    Source: BEiT (Bao et al., 2022), algorithm 1; the strata are DINOv2's.
    """
    masks = np.zeros((crops, *grid), dtype=bool)
    chosen = rng.permutation(crops)[: int(crops * share)]
    edges = np.linspace(*ratio, len(chosen) + 1)
    for crop, low, high in zip(chosen, edges[:-1], edges[1:], strict=True):
        _hide_blocks(masks[crop], int(grid[0] * grid[1] * rng.uniform(low, high)), rng)
    return masks.reshape(crops, grid[0] * grid[1])


def _hide_blocks(mask: np.ndarray, target: int, rng: np.random.Generator) -> None:
    """Adds rectangles to one mask (rows, columns) until about `target` patches are hidden."""
    attempts = ATTEMPTS
    while attempts and target - (hidden := int(mask.sum())) > 0:
        most = target - hidden
        area = rng.uniform(min(SMALLEST_BLOCK, most), most)
        aspect = math.exp(rng.uniform(math.log(FLATTEST_BLOCK), -math.log(FLATTEST_BLOCK)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        attempts -= 1
        if 0 < height <= mask.shape[0] and 0 < width <= mask.shape[1]:
            top = rng.integers(mask.shape[0] - height + 1)
            left = rng.integers(mask.shape[1] - width + 1)
            block = mask[top : top + height, left : left + width]
            if 0 < (~block).sum() <= most:
                block[:] = True
                attempts = ATTEMPTS
