"""One rule for the colours of every picture, whatever it is encoded as."""

import numpy as np
from PIL import Image

WHITE = 255
TWELVE_BITS, SIXTEEN_BITS = (1 << 12) - 1, (1 << 16) - 1
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0
"""Two tags of TIFF, and the value of the second that says that 0 is white."""


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB with 8 bits a channel, by Pillow's mode of the opened file:

    - RGB, RGBX: itself. L, 1: grey, one number for all three channels. P: its palette's colours.
    - CMYK, YCbCr, HSV, LAB: as Pillow converts them.
    - RGBA, RGBa, LA, La, PA, and a transparent colour of any mode: what shows on white ground.
    - I;16, I;16L, I;16B, I;16N, and PPM's I: grey, the high byte, as Pillow does with 16-bit
      colours; of TIFF's 12 bits the high eight.
    - other I (32 bits) and F: grey, from 0 to 1 (F alone), to 255 or to 65535, whichever holds all
      its numbers first. ValueError if none does: nobody says what is white.

    EXIF's orientation, colour profiles and gamma are not applied, as in CoOp's reader and those of
    all methods compared here, `Image.open(file).convert("RGB")`; of a picture with 8 bits a channel
    and nothing transparent this is what that gives, to the bit.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    return on_white(image.convert("RGBA"))


def on_white(image: Image.Image) -> Image.Image:
    """What shows of an RGBA picture that lies on white ground."""
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image)
    return ground


def _grey(image: Image.Image) -> Image.Image:
    """A picture of one wide channel in 8 bits: mode L."""
    values = np.asarray(image)
    white = _white(image, values)
    if white > 255:
        grey = values.astype(np.int32) >> (white.bit_length() - 8)
    else:
        grey = np.rint(values * (255 / white))
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:  # Pillow turns 8 bits round, and no more
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey = np.where(values == transparent, WHITE, grey)
    return Image.fromarray(grey.astype(np.uint8))


def _white(image: Image.Image, values: np.ndarray) -> int:
    """The number that stands for white."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        return TWELVE_BITS if tags.get(_BITS_PER_SAMPLE) == (12,) else SIXTEEN_BITS
    if image.format == "PPM" and image.mode == "I":
        return SIXTEEN_BITS
    lowest, highest = values.min(), values.max()
    for white in (1, 255, SIXTEEN_BITS) if image.mode == "F" else (255, SIXTEEN_BITS):
        if lowest >= 0 and highest <= white:  # neither holds for NaN
            return white
    raise ValueError(
        f"grey values from {lowest} to {highest}, of which none is known to be white; allowed: "
        f"from 0 to 1, to 255 or to {SIXTEEN_BITS}"
    )
