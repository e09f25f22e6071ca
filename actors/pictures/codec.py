"""Encoded images in and out: the only place where foreign image bytes are decoded."""

import io
import logging
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jsonargparse.typing import restricted_number_type
from PIL import Image, UnidentifiedImageError

from actors.pictures.colours import as_rgb
from cluster.picture_files import FORMATS

DECODING = "decoding-3"
"""Names how encoded images become pixels, for caches of decoded ones; another one with every change
of those."""
MAX_PIXELS = 64_000_000
"""A larger image is refused before it is decoded."""
MAX_ASPECT = 20
"""An image whose longer side is more than this many times the shorter one is refused, too: resized
as a whole, as torchvision does it, it takes that many times the memory of its square."""
LARGEST_FILE = 256 << 20
"""Bytes of a file; a larger one is refused unread."""
Quality = restricted_number_type("Quality", int, [(">=", 1), ("<=", 100)])
_ADDRESS = re.compile(r" ?<[^<>]*>| at 0x[0-9a-f]+")
"""What an error says of an object in memory, another text in each run."""

# A picture is read or has its reason; what Pillow says of it besides names no file.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


class BadImageError(ValueError):
    """Bytes that are no whole image; the message is the reason that a rejected row carries."""


class UnpaintableError(ValueError):
    """A caption that has no picture; the message is the reason that its rows carry."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How pictures that are made are kept; what is chosen goes into the hash of a base set."""

    format: Literal["png", "webp", "jpeg"] = "png"
    """PNG keeps every pixel; of a painter's 512 x 512 it takes 350 kB."""
    quality: Quality = 90  # type: ignore[valid-type]
    """Of WebP and JPEG; PNG has none."""

    def encode(self, image: Image.Image) -> bytes:
        """The image, RGB, in this format."""
        settings: dict[str, Any] = {} if self.format == "png" else {"quality": self.quality}
        image.save(buffer := io.BytesIO(), format=self.format, **settings)
        return buffer.getvalue()


def suffix(data: bytes) -> str:
    """What a file of these bytes of a picture ends with: ".jpg", ".webp", or ".png" for all else,
    which readers know by its content."""
    if data[:3] == b"\xff\xd8\xff":
        return ".jpg"
    return ".webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ".png"


def png_bytes(image: Image.Image) -> bytes:
    """The image as PNG."""
    return Encoding().encode(image)


def picture_bytes(path: Path) -> bytes:
    """The bytes of a picture's file, undecoded.

    Raises BadImageError, whose message does not name the file, if it is not there, no regular file,
    larger than LARGEST_FILE or cannot be read.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
            raise BadImageError("no regular file")
        if state.st_size > LARGEST_FILE:
            raise BadImageError(f"{state.st_size} bytes, more than {LARGEST_FILE}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadImageError("no such file") from error
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror})") from error


def decode_rgb(data: bytes, side: int | None = None) -> Image.Image:
    """A whole RGB image from encoded bytes, by the rule of `actors.pictures.colours.as_rgb`.

    side: pixels of the square that is made of it, for what may differ a little: a JPEG is decoded
    at a half, a quarter or an eighth of its size while its shorter side keeps so many. It takes
    half the time or a fifth; of a square of 224 the pixels differ by 1.6 of 255 in the mean, and
    what CLIP makes of it by less than JPEG itself has changed that.

    Opened are the formats of `cluster.picture_files`, known by their content; of several frames or
    pages the first. Raises BadImageError on anything else: a truncated file, more than MAX_PIXELS,
    sides of more than 1 to MAX_ASPECT.
    """
    if not data:
        raise BadImageError("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
            _require_size(*image.size)
            if side:
                image.draft(None, (side, side))
            return as_rgb(image)
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise BadImageError(f"not a readable image (none of {known} that can be read)") from error
    except Exception as error:  # anything: the parsers are many, and the bytes are to blame
        message = _ADDRESS.sub("", str(error)).strip()
        first_line = f"{type(error).__name__}: {message}".splitlines()[0]
        raise BadImageError(f"not a readable image ({first_line})") from error


def _require_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width} x {height} pixels, more than {MAX_PIXELS}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImageError(f"{width} x {height} pixels, sides of more than 1 to {MAX_ASPECT}")


def resized_square(
    image: Image.Image, size: int, resize: str = "crop", interpolation: str = "bicubic"
) -> np.ndarray:
    """The image in the test transform of a CLIP: uint8 (size, size, 3).

    resize: "crop" or "squash", as `models.towers.preprocessing` has them. To crop, the shorter side
    is resized to `size`, and the centre is cut out: to the pixel what torchvision's `Resize(size)`
    and `CenterCrop(size)` make of a PIL image, which truncate the longer side and round the offset
    half to even. The whole is resized before it is cut, for a box that Pillow resizes has other
    weights; MAX_ASPECT bounds what that takes. interpolation: "bicubic" or "bilinear".
    """
    width = height = size
    if resize == "crop":
        longer = int(size * max(image.size) / min(image.size))
        width, height = (longer, size) if image.width > image.height else (size, longer)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))
