"""One rule for every mode of Pillow: the same picture, whatever it is encoded as."""

import io
import itertools

import numpy as np
import PIL
import pytest
from PIL import Image

from actors.pictures.codec import BadImageError, decode_rgb
from actors.pictures.colours import as_rgb

COLUMNS, ROWS = np.meshgrid(np.arange(32), np.arange(24))
GREY = ((COLUMNS * 8 + ROWS * 3) % 256).astype(np.uint8)
"""(24, 32): all of 0 … 255 but few."""


def grey_rgb(grey: np.ndarray = GREY) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def read(image: Image.Image, name: str, **options: object) -> np.ndarray:
    image.save(buffer := io.BytesIO(), format=name, **options)
    return np.asarray(decode_rgb(buffer.getvalue()))


def colours(alpha: np.ndarray | None = None) -> Image.Image:
    channels = [GREY, GREY[::-1], GREY[:, ::-1], *([] if alpha is None else [alpha])]
    return Image.fromarray(np.stack(channels, axis=2))


YCBCR = ["YCbCr"] if int(PIL.__version__.partition(".")[0]) >= 13 else []
"""Pillow 12 cannot read the TIFFs of this mode that it writes."""


def test_ordinary_pictures_are_what_pillow_makes_of_them() -> None:
    plain = {
        "PNG": ["1", "L", "P", "RGB"],
        "TIFF": ["1", "L", "P", "RGB", "RGBX", "CMYK", "LAB", *YCBCR],
        "JPEG": ["L", "RGB", "CMYK"],
        "BMP": ["1", "L", "P", "RGB"],
        "GIF": ["L", "P"],
        "WEBP": ["RGB"],
    }
    for name, mode in itertools.chain(*(itertools.product([k], v) for k, v in plain.items())):
        colours().convert(mode).save(buffer := io.BytesIO(), format=name)
        with Image.open(buffer) as image:
            expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(np.asarray(decode_rgb(buffer.getvalue())), expected), (name, mode)


@pytest.mark.parametrize("scale", [256, 257])
@pytest.mark.parametrize(("name", "mode"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
def test_sixteen_bits_are_the_eight_bit_picture(name: str, mode: str, scale: int) -> None:
    image = Image.fromarray((GREY.astype(np.uint16) * scale).astype(mode))
    assert image.mode in ("I;16", "I;16B")
    assert np.array_equal(read(image, name), grey_rgb())


def test_sixteen_bits_of_a_pgm_are_the_eight_bit_picture() -> None:
    values = (GREY // 8).astype(np.uint16) * 257  # dark: not taken for one of 8 bits
    data = b"P5 32 24 65535\n" + values.astype(">u2").tobytes()
    assert np.array_equal(np.asarray(decode_rgb(data)), grey_rgb(GREY // 8))
    assert np.asarray(decode_rgb(b"P5 1 1 65535\n\x00\xff")).max() == 0


def test_sixteen_bit_colours_are_the_eight_bit_picture() -> None:
    pixels = np.asarray(colours()).astype(">u2") * 257
    data = b"P6 32 24 65535\n" + pixels.astype(">u2").tobytes()
    assert np.abs(np.asarray(decode_rgb(data)).astype(int) - np.asarray(colours())).max() == 0


def tiff(values: bytes, bits: int, photometric: int) -> bytes:
    """A little-endian TIFF of 32 x 24 pixels of one channel, uncompressed."""
    tags = [
        (256, 32), (257, 24), (258, bits), (259, 1), (262, photometric), (273, 122), (277, 1),
        (278, 24), (279, len(values)),
    ]  # fmt: skip
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + value.to_bytes(4, "little")
        for tag, value in tags
    )
    head = b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little") + entries + b"\0" * 4
    return head.ljust(122, b"\0") + values


def test_a_tiff_whose_white_is_0_is_no_negative() -> None:
    for bits, kind in ((8, "<u1"), (16, "<u2")):
        values = (255 - GREY.astype(int)) * (257 if bits == 16 else 1)
        data = tiff(values.astype(kind).tobytes(), bits, photometric=0)
        assert np.array_equal(np.asarray(decode_rgb(data)), grey_rgb()), bits


def test_twelve_bits_of_a_tiff_are_the_eight_bit_picture() -> None:
    pairs = (GREY.astype(int) << 4).reshape(-1, 2)
    packed = [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255]
    data = tiff(np.stack(packed, axis=1).astype(np.uint8).tobytes(), 12, photometric=1)
    assert np.array_equal(np.asarray(decode_rgb(data)), grey_rgb())


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (GREY / 255, np.float32),
        (GREY, np.float32),
        (GREY * 257.0, np.float32),
        (GREY, np.int32),
        (GREY * 257.0, np.int32),
    ],
)
def test_floats_and_32_bits_are_the_eight_bit_picture(values: np.ndarray, kind: type) -> None:
    assert np.array_equal(read(Image.fromarray(values.astype(kind)), "TIFF"), grey_rgb())


@pytest.mark.parametrize("outlier", [-1.0, 70_000.0, np.nan, np.inf])
def test_numbers_of_which_none_is_white_are_refused(outlier: float) -> None:
    values = GREY.astype(np.float32)
    values[0, 0] = outlier
    with pytest.raises(BadImageError, match=r"grey values from .* none is known to be white"):
        read(Image.fromarray(values), "TIFF")


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "AVIF"])
def test_a_black_shape_on_transparent_ground_is_seen(name: str) -> None:
    alpha = np.where(COLUMNS < 16, 0, 255).astype(np.uint8)
    black = np.zeros((24, 32, 3), dtype=np.uint8)
    picture = Image.fromarray(np.concatenate([black, alpha[..., None]], axis=2))
    options = {} if name in ("PNG", "TIFF") else {"lossless": True, "quality": 100}
    shown = read(picture, name, **options).astype(int)
    assert np.abs(shown - np.where(COLUMNS < 16, 255, 0)[..., None]).max() <= 2
    palette = read(picture.quantize(8, Image.Quantize.FASTOCTREE), "PNG")
    assert np.array_equal(palette, np.repeat(255 - alpha[..., None], 3, axis=2))
    transparent_gif = read(picture, "GIF")
    assert np.array_equal(transparent_gif, np.repeat(255 - alpha[..., None], 3, axis=2))


def test_half_transparent_is_half_white_in_every_mode() -> None:
    alpha = np.full_like(GREY, 128)
    expected = np.rint((GREY * 128.0 + 255 * 127) / 255)
    for mode in ("RGBA", "LA", "RGBa", "La", "PA"):
        base = Image.fromarray(np.stack([GREY, alpha], axis=2), "LA")
        image = base.convert("RGBA").convert(mode) if mode in ("RGBA", "RGBa") else base
        if mode == "La":
            image = base.convert("La")
        if mode == "PA":
            image = Image.merge("PA", (Image.fromarray(GREY), Image.fromarray(alpha)))
            image.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
        assert image.mode == mode
        shown = np.asarray(as_rgb(image)).astype(float)
        assert np.abs(shown - expected[..., None]).max() <= 1, mode


@pytest.mark.parametrize(("mode", "key"), [("L", 0), ("RGB", (0, 0, 0)), ("P", 0), ("I;16", 0)])
def test_a_transparent_colour_is_white_ground(mode: str, key: object) -> None:
    values = GREY.astype(np.uint16) * 257 if mode == "I;16" else GREY
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
    elif mode == "RGB":
        image = image.convert(mode)
    assert image.mode == mode
    shown = read(image, "PNG", transparency=key)
    assert (GREY == 0).any()
    assert np.array_equal(shown, grey_rgb(np.where(GREY == 0, 255, GREY)))


def test_every_mode_of_pillow_has_an_answer() -> None:
    for mode in Image.MODES:
        image = Image.new(mode, (3, 2))
        assert as_rgb(image).mode == "RGB", mode
        assert as_rgb(image).size == (3, 2)


def test_orientation_is_left_as_the_pixels_lie() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read(colours(), "PNG", exif=exif)
    assert np.array_equal(turned, np.asarray(colours()))


def test_of_several_frames_the_first_is_read() -> None:
    frames = [Image.fromarray(grey) for grey in (GREY, 255 - GREY)]
    for name in ("GIF", "TIFF"):
        assert np.array_equal(
            read(frames[0], name, save_all=True, append_images=frames[1:]), grey_rgb()
        )
