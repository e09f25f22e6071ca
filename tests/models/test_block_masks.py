"""How many patches are hidden, in how many crops."""

import numpy as np

from models.block_masks import draw_masks


def test_half_of_the_crops_are_masked_within_the_ratio() -> None:
    rng = np.random.default_rng(0)
    masks = draw_masks(100, (14, 14), 0.5, (0.1, 0.5), rng)
    hidden = masks.sum(axis=1)
    assert masks.shape == (100, 196)
    assert (hidden > 0).sum() == 50
    assert hidden.max() <= 0.5 * 196
    assert hidden[hidden > 0].mean() > 0.2 * 196


def test_masks_depend_on_the_generator_alone() -> None:
    first, second = (
        draw_masks(8, (8, 8), 0.5, (0.1, 0.5), np.random.default_rng(3)) for _ in range(2)
    )
    assert (first == second).all()


def test_hidden_patches_are_rectangles_not_dust() -> None:
    masks = draw_masks(40, (14, 14), 1.0, (0.3, 0.5), np.random.default_rng(0))
    grids = masks.reshape(-1, 14, 14)
    beside = (grids[:, :, 1:] & grids[:, :, :-1]).sum() / grids.sum()
    assert beside > 0.6  # for single patches at this density: about 0.4


def test_tiny_grids_and_no_crops_are_fine() -> None:
    rng = np.random.default_rng(0)
    assert draw_masks(4, (2, 2), 1.0, (0.5, 0.5), rng).sum(axis=1).max() <= 2
    assert draw_masks(0, (2, 2), 0.5, (0.1, 0.5), rng).shape == (0, 4)
