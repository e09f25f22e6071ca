from dataclasses import replace

import pytest
import torch

from models.task import Features
from tests.models.methods.tasks import features, task


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


def test_a_device_gets_labels_and_no_more_tokens_than_are_read() -> None:
    whole = features(4, 0, views=2)
    scattered = whole.of_images([7, 2, 5])
    for stored in (whole, scattered):
        assert stored.to("cpu", "class token") is stored
        few = stored.to("meta", "class token")
        assert few.labels.device.type == few.stored.device.type == "meta"
        assert few.tokens.shape == (2, len(stored), 1, stored.stored.shape[-1])
        for reads in ("tokens", "images"):
            moved = stored.to("meta", reads)
            assert moved.labels.device.type == "meta"
            assert moved.stored is stored.stored
            assert moved.places is stored.places


def test_the_class_token_is_the_first_of_the_clean_view() -> None:
    for stored in (features(4, 0, views=2), features(4, 0, views=2).of_images([7, 2, 5])):
        for images in (slice(None), slice(1, 3)):
            expected = stored.inputs("tokens", images)[:, :1]
            assert torch.equal(stored.inputs("class token", images), expected)
