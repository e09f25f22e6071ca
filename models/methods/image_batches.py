"""Batches of pictures in augmented views, for methods whose image tower learns."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.methods.batches import endless_batches
from models.task import Features
from models.views import NUMBERS, ViewConfig, make_views


class ImageBatches:
    """Endless batches of a split's pictures, each in a view that (seed, epoch, row) determines.

    labels: (N,) int64 of all images. Raises ValueError if there is no image, or no picture of them.
    """

    def __init__(
        self,
        features: Features,
        batch: int,
        size: int,
        augmentation: ViewConfig,
        seed: Sequence[int],
    ) -> None:
        """size: R, CLIP's input size. seed: another one per stream."""
        self.labels = features.labels
        self._images = features.inputs("images")
        self._size, self._augmentation, self._seed = size, augmentation, seed
        order = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(1 << 63)))
        self._rows = endless_batches(len(features), batch, order)
        self._epochs = [0] * len(features)

    def next(self) -> tuple[Tensor, Tensor]:
        """Views (B, 3, R, R) float32 in [0, 1], and labels (B,), where the labels lie."""
        rows = next(self._rows)
        uniform = np.stack([self._numbers(row) for row in rows.tolist()])
        device = self.labels.device  # the pictures stay in the CPU's memory
        images, numbers = self._images[rows].to(device), torch.from_numpy(uniform).to(device)
        return make_views(images, numbers, 0, self._size, self._augmentation), self.labels[rows]

    def _numbers(self, row: int) -> np.ndarray:
        """All that is random about the next view of an image: (NUMBERS,) in [0, 1)."""
        rng = np.random.default_rng([*self._seed, self._epochs[row], row])
        self._epochs[row] += 1
        return rng.random(NUMBERS, dtype=np.float32)
