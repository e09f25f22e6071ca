from pathlib import Path

import numpy as np
import pytest
import torch

from actors.features.encoder import Encoder, EncoderConfig
from actors.features.plan import encoding_plan
from actors.pictures.base_set import BaseSetRows
from actors.pictures.codec import decode_rgb, resized_square
from actors.pictures.places import read_images, texts_of_ids
from cluster.errors import ConfigError
from tests.actors.small_world import make_base_set, make_dataset

CONFIG = EncoderConfig(views=3, precision="fp32", batch_size=4)
VIEWS = {"train": 3, "val": 1, "test": 1, "imagined": 2}
Batch = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CONFIG)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """Some rows of every split, two of them cut off."""
    storage = tmp_path_factory.mktemp("toys")
    dataset, base_set = make_dataset(storage, bad=2), BaseSetRows(make_base_set(storage))
    plan = texts_of_ids(encoding_plan(dataset, base_set, VIEWS))
    return {name: np.array(plan[name].to_pylist()[::3]) for name in plan.column_names}


@pytest.fixture(scope="module")
def encoded(encoder: Encoder, batch: Batch) -> Batch:
    return encoder(batch)


def tokens_of(encoded: Batch, row: int) -> torch.Tensor:
    flat = torch.frombuffer(bytearray(encoded["tokens"][row]), dtype=torch.half)
    return flat.view(int(encoded["views"][row]), 65, 128)


def part(batch: Batch, rows: list[int]) -> Batch:
    return {name: values[rows] for name, values in batch.items()}


def test_a_view_depends_on_its_row_alone(encoder: Encoder, batch: Batch, encoded: Batch) -> None:
    rows = [row for row in range(len(batch["id"])) if batch["split"][row] in ("train", "imagined")]
    alone = encoder(part(batch, rows[::-1]))
    for place, row in enumerate(rows[::-1]):
        assert encoded["reason"][row] == alone["reason"][place]
        if not encoded["reason"][row]:
            # another batch is another shape for the matrix products, so the last bits differ
            torch.testing.assert_close(
                tokens_of(alone, place), tokens_of(encoded, row), atol=1e-2, rtol=1e-2
            )


def test_view_0_is_clean_and_the_others_are_not(
    encoder: Encoder, batch: Batch, encoded: Batch
) -> None:
    row = next(
        r
        for r in range(len(batch["id"]))
        if batch["split"][r] == "train" and not encoded["reason"][r]
    )
    image = decode_rgb(read_images(part(batch, [row]))[0])
    pixels = torch.from_numpy(np.array(resized_square(image, 64))).permute(2, 0, 1)[None]
    expected = encoder.clip.encode_tokens(encoder.clip.normalise(pixels))[0]
    views = tokens_of(encoded, row).float()
    torch.testing.assert_close(views[0], expected, atol=1e-2, rtol=1e-2)
    assert (views[1] - views[0]).abs().mean() > 10 * (views[0] - expected).abs().mean()
    assert (views[1] - views[2]).abs().mean() > 10 * (views[0] - expected).abs().mean()


def test_bad_row_is_kept_with_its_reason(encoded: Batch) -> None:
    bad = [row for row, reason in enumerate(encoded["reason"]) if reason]
    assert bad
    for row in bad:
        assert encoded["class_name"][row] == "cat"
        assert encoded["tokens"][row] == b""
        assert "not a readable image" in encoded["reason"][row]


def test_a_batch_without_a_good_image(encoder: Encoder, encoded: Batch, batch: Batch) -> None:
    bad = [row for row, reason in enumerate(encoded["reason"]) if reason]
    assert list(encoder(part(batch, bad))["tokens"]) == [b""] * len(bad)


def test_an_unknown_backbone_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"backbone: 'tinny'; allowed"):
        Encoder(EncoderConfig(backbone="tinny"))


def test_imagined_images_of_other_datasets_and_refused_ones_are_left_out(tmp_path: Path) -> None:
    base_set = BaseSetRows(make_base_set(tmp_path, per_class=2))
    plan = encoding_plan(make_dataset(tmp_path), base_set, VIEWS)
    imagined = [row for row in plan.to_pylist() if row["split"] == "imagined"]
    assert len(imagined) == 6 * 2
    assert {row["views"] for row in imagined} == {2}
