import numpy as np
import pytest

from actors.embedded.sprites import ARTISTS, Artist
from actors.embedded.target_scenes import (
    PER_CLASS,
    TWEMOJI,
    target_concepts,
    target_count,
    target_rows,
)
from actors.pictures.codec import decode_rgb


def test_every_class_has_its_pictures_in_every_split() -> None:
    rows = list(target_rows("music"))
    for label, concept in enumerate(target_concepts("music")):
        of_class = [row for row in rows if row["class_name"] == concept.name]
        assert {row["label"] for row in of_class} == {label}
        assert {row["group"] for row in of_class} == {concept.group}
        for split, count in PER_CLASS.items():
            assert sum(row["split"] == split for row in of_class) == count
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["image"] for row in rows}) == len(rows) == target_count("music")


def test_the_same_dataset_comes_out_twice() -> None:
    assert list(target_rows("digits")) == list(target_rows("digits"))


def test_digits_are_dark_on_light_and_differ() -> None:
    rows = list(target_rows("digits"))
    assert {row["group"] for row in rows} == {"OOP"}
    pixels = np.asarray(decode_rgb(rows[0]["image"]))
    assert pixels.min() < 60
    assert pixels.max() == 255


@pytest.mark.parametrize("artist", [artist for artist in ARTISTS if artist != TWEMOJI])
def test_another_artist_draws_the_same_classes(artist: Artist) -> None:
    ours, theirs = list(target_rows("music")), list(target_rows("music", artist))
    told = ("dataset", "class_name", "label", "group", "split")
    assert [[row[key] for key in told] for row in ours] == [
        [row[key] for key in told] for row in theirs
    ]
    assert not {row["id"] for row in ours} & {row["id"] for row in theirs}
    assert len({row["image"] for row in [*ours, *theirs]}) == 2 * len(ours)
