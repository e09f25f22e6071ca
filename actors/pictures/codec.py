"""Encoded images in and out: the only place where foreign image bytes are decoded."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 64_000_000
"""A larger image is refused before it is decoded."""


class BadImageError(ValueError):
    """Bytes that are no whole image; the message is the reason that a rejected row carries."""


class UnpaintableError(ValueError):
    """A caption that has no picture; the message is the reason that its rows carry."""


def png_bytes(image: Image.Image) -> bytes:
    """The image as PNG."""
    image.save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


def decode_rgb(data: bytes) -> Image.Image:
    """A whole RGB image from encoded bytes.

    Raises BadImageError on anything else, a truncated file included.
    """
    if not data:
        raise BadImageError("empty file")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImageError(
                    f"{image.width} x {image.height} pixels, more than {MAX_PIXELS}"
                )
            return image.convert("RGB")
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        message = str(error).partition(" <")[0]  # without the buffer's address, another in each run
        raise BadImageError(
            f"not a readable image ({type(error).__name__}: {message})".splitlines()[0]
        ) from error


def resized_square(image: Image.Image, size: int) -> np.ndarray:
    """The image in CLIP's own test transform: uint8 (size, size, 3).

    The shorter side is resized to `size` (bicubic), and the centre is cut out.
    """
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
