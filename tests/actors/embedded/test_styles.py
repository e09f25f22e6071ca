"""Other hands over the same sprites."""

import numpy as np
import pytest
from PIL import Image

from actors.embedded.sprites import sprite
from actors.embedded.styles import STYLES, Style, styled

FOX, SHIP = "1F98A", "26F5"


def drawn(style: Style, seed: int = 0, code: str = FOX, artist: str = "openmoji") -> Image.Image:
    return styled(sprite(artist, code), style, np.random.default_rng(seed))


@pytest.mark.parametrize("style", STYLES)
def test_a_style_is_a_function_of_the_sprite_and_of_chance(style: Style) -> None:
    pictures = [drawn(style), drawn(style, seed=1), drawn(style, code=SHIP)]
    pictures.append(drawn(style, artist="noto_colour"))
    assert drawn(style).tobytes() == pictures[0].tobytes()
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("style", STYLES)
def test_a_thing_stays_where_and_as_large_as_it_was(style: Style) -> None:
    plain, picture = sprite("openmoji", FOX), drawn(style)
    assert (picture.mode, picture.size) == ("RGBA", plain.size)
    before, after = (np.asarray(p.getchannel("A"), dtype=float) / 255 for p in (plain, picture))
    assert (after[before > 0.5] > 0.3).mean() > 0.95
    assert (after[before == 0] > 0.5).mean() < 0.02


def test_styles_are_told_apart() -> None:
    def seen(style: Style) -> np.ndarray:
        white = Image.new("RGBA", (72, 72), "white")
        return np.asarray(Image.alpha_composite(white, drawn(style)).convert("RGB"), dtype=float)

    pictures = [seen(style) for style in STYLES]
    apart = [np.abs(a - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(apart) > 5, "of 255, over all pixels"
