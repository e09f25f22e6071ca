import numpy as np
import pytest

from actors.embedded.concepts import load_concepts
from actors.embedded.sprites import ARTISTS, SPRITE_SIZE, sprite, sprite_array


@pytest.mark.parametrize(
    "artist", ["openmoji", "twemoji", pytest.param("noto_colour", marks=pytest.mark.long)]
)
def test_every_concept_is_drawn(artist: str) -> None:
    sprites = sprite_array(artist, [concept.code for concept in load_concepts()])
    assert sprites.shape[1:] == (SPRITE_SIZE, SPRITE_SIZE, 4)
    assert (sprites[..., 3].reshape(len(sprites), -1).max(axis=1) == 255).all()
    assert len({one.tobytes() for one in sprites}) == len(sprites)


def test_artists_draw_differently() -> None:
    pictures = [np.asarray(sprite(artist, "1F98A")) for artist in ARTISTS]
    assert len({picture.tobytes() for picture in pictures}) == len(ARTISTS)


def test_what_nobody_drew_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        sprite("openmoji", "E000E")
