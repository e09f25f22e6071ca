"""Epochs are those of the sources."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from models.methods.descent import ShotBatches
from tests.models.methods.tasks import NAMES, features


@pytest.mark.parametrize(
    ("per_class", "batch", "dropped", "kept"),
    [(4, 8, 2, 3), (4, 10, 2, 2), (1, 32, 1, 1), (2, 6, 1, 2)],
)
def test_an_epoch_has_no_step_for_a_last_batch_that_is_not_full(
    per_class: int, batch: int, dropped: int, kept: int
) -> None:
    """As torch's DataLoader has it with drop_last, and Dassl where there are fewer images than a
    batch holds."""
    rows, rng = features(per_class, 0), torch.Generator()
    assert len(rows) == per_class * len(NAMES)
    for drop_last, epoch in ((True, dropped), (False, kept)):
        assert ShotBatches(rows, batch, rng, drop_last=drop_last).epoch == epoch
        loader: DataLoader[tuple[torch.Tensor, ...]] = DataLoader(
            TensorDataset(rows.labels), batch, drop_last=drop_last and len(rows) >= batch
        )
        assert len(loader) == epoch
