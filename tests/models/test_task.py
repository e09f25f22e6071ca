from dataclasses import replace

import pytest
import torch

from models.task import Features
from tests.models.methods.tasks import task


def test_sizes_that_disagree_are_named() -> None:
    tokens = torch.zeros(1, 3, 5, 4)
    with pytest.raises(ValueError, match="3 images, but 2 labels"):
        Features(tokens, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\(views, images, tokens, channels\), got \(3, 5, 4\)"):
        Features(tokens[0], torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="3 images, but 1 captions"):
        Features(tokens, torch.zeros(3, dtype=torch.int64), ("a",))


def test_a_label_without_a_name_is_named() -> None:
    cell = task()
    with pytest.raises(ValueError, match="train has label 4, but 4 names"):
        replace(cell, names=cell.names[:4], text=cell.text[:4])
    with pytest.raises(ValueError, match="text has 5 rows for 4 names"):
        replace(cell, names=cell.names[:4])
