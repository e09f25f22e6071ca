"""The embedded painter: composes an artist's sprites into scenes from the factors that a caption
names.

It takes the place of a diffusion model where there is no GPU. What a caption leaves open is drawn
at random for each view, so that the four views of a caption differ as four samples of a diffusion
model do.
"""

import dataclasses
import io
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageEnhance, ImageFilter

from actors.embedded.concepts import DIGIT_NAMES, load_concepts
from actors.embedded.handwriting import numeral
from actors.embedded.iconify import IconSet
from actors.embedded.sprite_factors import FACTORS, factor_table
from actors.embedded.sprites import SPRITE_SIZE, sprite
from actors.embedded.styles import STYLES, Style, styled
from cluster.rows import row_rng

SIDE = 96
"""Width and height of a painted picture in pixels."""
PaintingArtist = Literal["openmoji", "noto_colour", "iconify"]
"""Those who paint base sets; iconify is whose pictures lie in a folder of the user's. Not among
them: Twemoji's artist, who draws the target datasets."""
COLOUR_SPREAD = 60
"""Most that a channel of a background's colours differs between views, of 255: two meadows."""


@cache
def sprite_codes() -> dict[str, str]:
    """Class name -> code point, for every concept that artists have drawn."""
    return {concept.name: concept.code for concept in load_concepts()}


@dataclasses.dataclass(frozen=True)
class Scene:
    """The factors of one picture; an empty one is left to the painter."""

    class_name: str
    attribute: str = ""
    background: str = ""
    viewpoint: str = ""
    lighting: str = ""
    degradation: str = ""

    def refusal(self) -> str:
        """Why this scene cannot be painted; empty if it can."""
        if self.class_name not in sprite_codes() and self.class_name not in DIGIT_NAMES:
            return f"class {self.class_name!r} has no sprite"
        for kind in FACTORS:
            phrase = getattr(self, kind)
            if phrase and phrase not in factor_table()[f"{kind}s"]:
                return f"{kind} {phrase!r} is not in the sprite painter's table"
        return ""


@dataclasses.dataclass(frozen=True)
class Hand:
    """Who draws: an artist, in a style of our own or as the sprites are."""

    artist: PaintingArtist
    style: Style | None = None
    icons: IconSet | None = None
    """What iconify draws."""

    @property
    def name(self) -> str:
        """`openmoji`, or `openmoji+poster` with a style."""
        return f"{self.artist}+{self.style}" if self.style else self.artist

    def draws(self, class_name: str) -> bool:
        """Whether it has a picture of this class; all have but iconify, who may lack some."""
        if self.icons is None or class_name in DIGIT_NAMES:
            return True
        return self.icons.has(sprite_codes()[class_name])


HANDS = {
    hand.name: hand
    for artist in get_args(PaintingArtist)
    for hand in (Hand(artist), *(Hand(artist, style) for style in STYLES))
}
OPENMOJI = HANDS["openmoji"]


def paint(scene: Scene, row_id: str, hand: Hand = OPENMOJI, caption_id: str = "") -> Image.Image:
    """One picture, RGB, (SIDE, SIDE); a function of the scene, the hand and both ids alone.

    caption_id: what a style leaves to chance is the same in all pictures of a caption.
    """
    rng = row_rng(row_id, "sprites")
    settings = {
        kind: _settings(kind, getattr(scene, kind))
        for kind in ("attribute", "viewpoint", "lighting", "degradation")
    }
    backgrounds = list(factor_table()["backgrounds"].values())
    behind = (
        _settings("background", scene.background) or backgrounds[rng.integers(len(backgrounds))]
    )
    picture = _background(behind, rng)
    drawn = _subject(scene.class_name, hand, rng)
    if hand.style:
        drawn = styled(drawn, hand.style, row_rng(caption_id, "style"))
    subject = _recoloured(drawn, settings["attribute"])
    for copy in reversed(range(settings["attribute"].get("copies", 1))):
        _paste(picture, subject, settings["attribute"], settings["viewpoint"], copy, rng)
    return _degraded(_lit(picture, settings["lighting"], rng), settings["degradation"], rng)


def _subject(class_name: str, hand: Hand, rng: np.random.Generator) -> Image.Image:
    """What a scene shows, RGBA, (SPRITE_SIZE, SPRITE_SIZE): a sprite, or a digit by hand."""
    if class_name in DIGIT_NAMES:
        return numeral(DIGIT_NAMES.index(class_name), SPRITE_SIZE, rng)
    return _squared(hand.artist, hand.icons, sprite_codes()[class_name])


@cache
def _squared(artist: PaintingArtist, icons: IconSet | None, code: str) -> Image.Image:
    """A sprite without its empty margin, of OpenMoji's a quarter of its width: squared, RGBA."""
    drawn = icons.sprite(code) if icons else sprite(artist, code)
    tight = drawn.crop(drawn.getbbox())
    side = max(tight.size)
    square = Image.new("RGBA", (side, side))
    square.paste(tight, ((side - tight.width) // 2, (side - tight.height) // 2))
    return square.resize((SPRITE_SIZE, SPRITE_SIZE), Image.Resampling.LANCZOS)


def _settings(kind: str, phrase: str) -> dict[str, Any]:
    return factor_table()[f"{kind}s"][phrase] if phrase else {}


def _background(settings: dict[str, Any], rng: np.random.Generator) -> Image.Image:
    first, second = (
        tuple(
            np.clip(
                np.array(ImageColor.getrgb(settings[name]))
                + rng.integers(-COLOUR_SPREAD, COLOUR_SPREAD + 1, 3),
                0,
                255,
            ).tolist()
        )
        for name in ("first", "second")
    )
    picture = Image.new("RGB", (SIDE, SIDE), first)
    draw, line = ImageDraw.Draw(picture), int(SIDE * rng.uniform(0.4, 0.75))
    match settings["kind"]:
        case "horizon":
            draw.rectangle((0, line, SIDE, SIDE), fill=second)
        case "waves":
            for y in range(0, SIDE, 12):
                for x in range(-12, SIDE, 24):
                    draw.arc((x + y % 24, y, x + y % 24 + 24, y + 10), 0, 180, fill=second, width=2)
        case "peaks":
            for _ in range(3):
                x, width = int(rng.integers(-10, SIDE)), int(rng.integers(30, 60))
                draw.polygon(
                    [(x, line + 8), (x + width // 2, line - width // 2), (x + width, line + 8)],
                    fill=second,
                )
            draw.rectangle((0, line, SIDE, SIDE), fill=tuple(int(c * 0.8) for c in second))
        case "trunks":
            for x in rng.integers(0, SIDE, 6):
                draw.rectangle((x, 0, x + 7, SIDE), fill=second)
        case "stars":
            for x, y in rng.integers(0, SIDE, (30, 2)):
                draw.ellipse((x, y, x + 1, y + 1), fill=second)
        case "checks":
            cell = int(rng.integers(10, 20))
            for x in range(0, SIDE, cell):
                for y in range(0, SIDE, cell):
                    if (x // cell + y // cell) % 2:
                        draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill=second)
        case "stripes":
            for x in range(0, SIDE, 14):
                draw.rectangle((x, 0, x + 6, SIDE), fill=second)
        case "shelves":
            gap = int(rng.integers(14, 30))
            for y in range(gap, SIDE, gap):
                draw.rectangle((0, y, SIDE, y + 2), fill=second)
        case "bricks":
            for row, y in enumerate(range(0, SIDE, 10)):
                draw.line((0, y, SIDE, y), fill=second, width=1)
                for x in range(row % 2 * 10, SIDE, 20):
                    draw.line((x, y, x, y + 10), fill=second, width=1)
    return picture


def _recoloured(image: Image.Image, attribute: dict[str, Any]) -> Image.Image:
    colour = ImageEnhance.Color(image.convert("RGB")).enhance(attribute.get("saturation", 1.0))
    colour = ImageEnhance.Brightness(colour).enhance(attribute.get("gain", 1.0))
    if tint := attribute.get("tint"):
        colour = _tinted(colour, tint)
    colour.putalpha(image.getchannel("A"))
    return colour


def _paste(
    picture: Image.Image,
    subject: Image.Image,
    attribute: dict[str, Any],
    viewpoint: dict[str, Any],
    copy: int,
    rng: np.random.Generator,
) -> None:
    """Puts one sprite into the picture; the first copy is the nearest."""
    scale = (
        attribute.get("scale", 1.0)
        * viewpoint.get("scale", 1.0)
        * rng.uniform(0.85, 1.1)
        * 0.8**copy
    )
    aspect = attribute.get("aspect", 1.0)
    width = int(SPRITE_SIZE * scale * aspect**0.5)
    height = int(SPRITE_SIZE * scale / aspect**0.5 * viewpoint.get("squash", 1.0))
    mirrored = attribute.get("mirror", False)
    image = subject.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else subject
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    if shear := viewpoint.get("shear", 0.0):
        affine = (1, shear, -shear * height / 2, 0, 1, 0)
        image = image.transform(
            image.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
        )
    angle = attribute.get("angle", 0.0) + rng.normal(0, 10)
    image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    shift = viewpoint.get("shift", 0.0) + rng.normal(0, 0.05) + (-0.25, 0.25)[copy % 2] * bool(copy)
    x = int(SIDE * (0.5 + shift) - image.width / 2)
    y = int(SIDE * (0.52 + rng.normal(0, 0.05)) - image.height / 2)
    picture.paste(image, (x, y), image)


def _tinted(image: Image.Image, tint: str) -> Image.Image:
    factors = np.array(ImageColor.getrgb(tint)) / 255
    return Image.fromarray((np.asarray(image) * factors).astype(np.uint8))


def _lit(picture: Image.Image, lighting: dict[str, Any], rng: np.random.Generator) -> Image.Image:
    gain = lighting.get("gain", 1.0) * rng.uniform(0.92, 1.08)
    values = np.asarray(picture, dtype=np.float32) * gain
    if tint := lighting.get("tint"):
        values *= np.array(ImageColor.getrgb(tint), dtype=np.float32) / 255
    if vignette := lighting.get("vignette", 0.0):
        axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
        distance = axis[:, None] ** 2 + axis[None, :] ** 2
        values *= (1 - vignette * np.clip(distance, 0, 1))[:, :, None]
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _degraded(
    picture: Image.Image, degradation: dict[str, Any], rng: np.random.Generator
) -> Image.Image:
    if radius := degradation.get("blur"):
        picture = picture.filter(ImageFilter.GaussianBlur(radius))
    if contrast := degradation.get("contrast"):
        picture = ImageEnhance.Contrast(picture).enhance(contrast)
    if pixels := degradation.get("pixels"):
        coarse = picture.resize((pixels, pixels), Image.Resampling.BOX)
        picture = coarse.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    if noise := degradation.get("noise"):
        grain = rng.normal(0, noise * 255, (SIDE, SIDE, 3))
        picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    if quality := degradation.get("quality"):
        picture.save(buffer := io.BytesIO(), format="JPEG", quality=quality)
        picture = Image.open(buffer).convert("RGB")
    return picture
