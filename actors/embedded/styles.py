"""Styles over an artist's sprites: the same things as another hand would draw them.

Each is a function of a sprite, RGBA, and of random numbers alone; it keeps size and outline.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

Style = Literal["outline", "poster", "hatching", "watercolour", "papercut"]
STYLES: tuple[Style, ...] = get_args(Style)


def styled(sprite: Image.Image, style: Style, rng: np.random.Generator) -> Image.Image:
    """The sprite, RGBA, in a style; its size stays."""
    drawn = _DRAW[style](sprite, rng)
    if drawn.mode == "RGB":
        drawn.putalpha(sprite.getchannel("A"))
    return drawn


def _outline(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lines of one ink over colours that are nearly gone."""
    on_white = _on_white(sprite)
    pale = Image.blend(Image.new("RGB", sprite.size, "white"), on_white, rng.uniform(0.1, 0.35))
    return _inked(pale, _edges(on_white) | _rim(sprite), _ink(rng))


def _poster(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Few, strong colours."""
    bright = ImageEnhance.Color(_on_white(sprite)).enhance(rng.uniform(1.4, 2.0))
    most = int(rng.integers(2, 5)) - 1  # of two to four values of a channel
    return bright.point(lambda value: round(value * most / 255) * 255 // most)


def _hatching(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Ink on paper: the darker a place, the more lines."""
    dark = 1 - np.asarray(_on_white(sprite).convert("L"), dtype=np.float32) / 255
    y, x = np.mgrid[: sprite.height, : sprite.width]
    turn = rng.uniform(0, np.pi)
    lines = np.zeros(dark.shape, dtype=bool)
    for least, angle in ((0.15, 0.0), (0.4, np.pi / 2), (0.65, np.pi / 4)):
        along = x * np.cos(turn + angle) + y * np.sin(turn + angle)
        lines |= (dark > least) & (along % 4 < 1.4)
    paper = tuple(rng.integers(225, 256, 3).tolist())
    return _inked(Image.new("RGB", sprite.size, paper), lines | _rim(sprite), _ink(rng))


def _watercolour(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Colours that run into one another, thin in some places, beyond the outline in others."""
    runny = _on_white(sprite).filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 2.5)))
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8))
    water = coarse.resize(sprite.size, Image.Resampling.BICUBIC)
    drawn = Image.composite(runny, ImageEnhance.Brightness(runny).enhance(1.35), water)
    soft = sprite.getchannel("A").filter(ImageFilter.GaussianBlur(1.2))
    drawn.putalpha(ImageChops.multiply(soft, water.point(lambda value: 190 + value // 4)))
    return drawn


def _papercut(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Three to five papers, each with the shadow of its edge."""
    papers = _on_white(sprite).quantize(int(rng.integers(3, 6))).convert("RGB")
    shift = rng.integers(1, 3, 2).tolist()
    edge = ImageChops.difference(papers, ImageChops.offset(papers, *shift)).convert("L")
    shaded = ImageEnhance.Brightness(papers).enhance(0.55)
    return Image.composite(shaded, papers, edge.point(lambda value: 255 * (value > 12)))


_DRAW: dict[Style, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "outline": _outline,
    "poster": _poster,
    "hatching": _hatching,
    "watercolour": _watercolour,
    "papercut": _papercut,
}


def _on_white(sprite: Image.Image) -> Image.Image:
    white = Image.new("RGBA", sprite.size, "white")
    return Image.alpha_composite(white, sprite).convert("RGB")


def _edges(picture: Image.Image) -> np.ndarray:
    """(H, W) bool: where colours change."""
    smooth = picture.filter(ImageFilter.GaussianBlur(0.8))
    steps = np.asarray(smooth.filter(ImageFilter.FIND_EDGES)).max(axis=2)
    return np.asarray(steps > 40)


def _rim(sprite: Image.Image) -> np.ndarray:
    """(H, W) bool: the outermost pixels of what is drawn."""
    alpha = sprite.getchannel("A")
    inner = alpha.filter(ImageFilter.MinFilter(3))
    return np.asarray((np.asarray(alpha) > 127) & (np.asarray(inner) <= 127))


def _ink(rng: np.random.Generator) -> np.ndarray:
    """A dark colour, (3,) uint8."""
    return rng.integers(0, 90, 3, dtype=np.uint8)


def _inked(picture: Image.Image, lines: np.ndarray, ink: np.ndarray) -> Image.Image:
    pixels = np.array(picture)
    pixels[lines] = ink
    return Image.fromarray(pixels)
