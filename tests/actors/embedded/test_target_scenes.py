from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from actors.embedded import target_scenes
from actors.embedded.sprites import ARTISTS, Artist
from actors.embedded.target_scenes import (
    TWEMOJI,
    Row,
    target_concepts,
    target_count,
    target_rows,
)
from actors.pictures.codec import decode_rgb

FEW = {"train": 3, "val": 1, "test": 2}
"""Pictures of each class and split, in place of PER_CLASS."""


@pytest.fixture(scope="module", autouse=True)
def few_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_scenes, "PER_CLASS", FEW)
        yield


@pytest.fixture(scope="module")
def music(few_pictures: None) -> list[Row]:
    return list(target_rows("music"))


def test_every_class_has_its_pictures_in_every_split(music: list[Row]) -> None:
    for label, concept in enumerate(target_concepts("music")):
        of_class = [row for row in music if row["class_name"] == concept.name]
        assert {row["label"] for row in of_class} == {label}
        assert {row["group"] for row in of_class} == {concept.group}
        for split, count in FEW.items():
            assert sum(row["split"] == split for row in of_class) == count
    assert len({row["id"] for row in music}) == len(music)
    assert len({row["image"] for row in music}) == len(music) == target_count("music")


def test_the_same_dataset_comes_out_twice() -> None:
    assert list(target_rows("digits")) == list(target_rows("digits"))


def test_digits_are_dark_on_light_and_differ() -> None:
    rows = list(target_rows("digits"))
    assert {row["group"] for row in rows} == {"OOP"}
    pixels = np.asarray(decode_rgb(rows[0]["image"]))
    assert pixels.min() < 60
    assert pixels.max() == 255


@pytest.mark.parametrize("artist", [artist for artist in ARTISTS if artist != TWEMOJI])
def test_another_artist_draws_the_same_classes(artist: Artist, music: list[Row]) -> None:
    ours = music[:24]
    theirs = list(islice(target_rows("music", artist), len(ours)))
    told = ("dataset", "class_name", "label", "group", "split")
    assert [[row[key] for key in told] for row in ours] == [
        [row[key] for key in told] for row in theirs
    ]
    assert not {row["id"] for row in ours} & {row["id"] for row in theirs}
    assert len({row["image"] for row in [*ours, *theirs]}) == 2 * len(ours)
