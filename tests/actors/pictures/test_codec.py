"""Foreign bytes become a picture or a reason, and a square of torchvision's, to the pixel."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from actors.pictures.codec import (
    LARGEST_FILE,
    MAX_ASPECT,
    BadImageError,
    Encoding,
    decode_rgb,
    picture_bytes,
    png_bytes,
    resized_square,
    suffix,
)

ROOT = Path(__file__).parents[3]
SIDES = (1, 2, 3, 7, 16, 31, 63, 64, 65, 97, 128, 171, 224, 225, 333, 375, 480, 500, 640)
SQUARES = (1, 16, 64, 97, 224, 336)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    image.save(buffer := io.BytesIO(), format=name, **options)
    return buffer.getvalue()


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header says this size in 8-bit RGB, of this compressed data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", SQUARES)
def test_the_square_is_torchvisions_to_the_pixel(size: int) -> None:
    theirs = Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size)])
    compared = 0
    for width in SIDES:
        for height in SIDES:
            if max(width, height) <= MAX_ASPECT * min(width, height):
                image = noise(width, height)
                square = resized_square(image, size)
                assert np.array_equal(square, np.asarray(theirs(image))), (width, height)
                compared += 1
    assert compared > 250


def test_the_longest_side_that_is_read_is_torchvisions_too() -> None:
    for image in (noise(9, 9 * MAX_ASPECT), noise(11 * MAX_ASPECT, 11)):
        read = decode_rgb(png_bytes(image))
        theirs = Compose([Resize(224, InterpolationMode.BICUBIC), CenterCrop(224)])(image)
        assert np.array_equal(resized_square(read, 224), np.asarray(theirs))


def test_pictures_are_kept_as_their_encoding_says() -> None:
    ramp = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    image = Image.fromarray(ramp)
    assert png_bytes(image) == Encoding().encode(image)
    assert np.array_equal(np.asarray(decode_rgb(png_bytes(image))), ramp)
    assert suffix(png_bytes(image)) == ".png"
    for name, end in (("webp", ".webp"), ("jpeg", ".jpg")):
        low, high = (Encoding(format=name, quality=q).encode(image) for q in (20, 95))  # type: ignore[arg-type]
        assert len(low) < len(high) < len(Encoding(format="png").encode(noise(64, 64)))
        assert suffix(low) == suffix(high) == end
        off = [np.abs(np.asarray(decode_rgb(data)) - ramp.astype(float)) for data in (low, high)]
        assert off[1].mean() < off[0].mean() < 16


@pytest.mark.parametrize("size", [(512, 512), (1500, 1000), (230, 900), (224, 224)])
def test_a_jpeg_decoded_for_a_square_gives_nearly_the_same_one(size: tuple[int, int]) -> None:
    smooth = noise(9, 9).resize(size, Image.Resampling.BICUBIC)
    data = Encoding(format="jpeg").encode(smooth)
    whole, scaled = decode_rgb(data), decode_rgb(data, 224)
    assert 224 <= min(scaled.size) <= min(whole.size) == min(size)
    assert (scaled.size == whole.size) == (min(size) < 448)
    squares = [resized_square(image, 224).astype(float) for image in (whole, scaled)]
    assert np.abs(squares[0] - squares[1]).mean() < 1
    for encoding in (Encoding(), Encoding(format="webp")):
        other = encoding.encode(smooth)
        assert np.array_equal(np.asarray(decode_rgb(other, 64)), np.asarray(decode_rgb(other)))


@pytest.mark.parametrize("name", ["AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_every_format_of_the_list_is_read_as_pillow_reads_it(name: str) -> None:
    data = encoded(noise(20, 12), name)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == name
        expected = image.convert("RGB")
    assert np.array_equal(np.asarray(decode_rgb(data)), np.asarray(expected))


def test_a_format_that_is_not_on_the_list_is_refused_unread() -> None:
    for name in ("ICO", "TGA", "PCX", "EPS", "DDS", "SGI", "JPEG2000", "BLP"):
        image = noise(16, 16).convert("P" if name == "BLP" else "RGB")
        with pytest.raises(BadImageError, match=r"^not a readable image \(none of AVIF, BMP, GIF"):
            decode_rgb(encoded(image, name))


def test_a_picture_that_its_decoder_gives_up_is_refused() -> None:
    whole = encoded(Image.new("RGB", (60, 40), "red"), "AVIF")
    with pytest.raises(BadImageError, match=r"^not a readable image \(RuntimeError: "):
        decode_rgb(whole[:-32] + bytes(32))


def test_bytes_that_are_no_image_are_refused() -> None:
    whole = png_bytes(noise(64, 64))
    for data in (b"", b"GIF89a", whole[:-30], whole[:40], b"\0" * 100, b"%!PS-Adobe-3.0 EPSF-3.0"):
        with pytest.raises(BadImageError):
            decode_rgb(data)


def test_damaged_files_of_every_format_are_a_picture_or_one_line() -> None:
    rng = np.random.default_rng(0)
    reasons = []
    for name in ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"):
        whole = encoded(noise(24, 16), name)
        for _ in range(60):
            damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
            for place in rng.integers(0, len(damaged), rng.integers(0, 6)):
                damaged[place] = rng.integers(256)
            try:
                assert decode_rgb(bytes(damaged)).mode == "RGB"
            except BadImageError as error:
                reasons.append(str(error))
    assert len(reasons) > 100
    assert not [reason for reason in reasons if "\n" in reason or "0x" in reason]


def test_a_reason_names_no_place_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise OSError(f"cannot read {io.BytesIO()}\nat all")

    monkeypatch.setattr(Image, "open", breaks)
    with pytest.raises(BadImageError) as raised:
        decode_rgb(b"any")
    assert str(raised.value) == "not a readable image (OSError: cannot read)"


@pytest.mark.parametrize("size", [(1, 8_000), (1_000_000, 1), (64_000_000, 1), (10, 201)])
def test_a_thin_picture_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(BadImageError, match=f"^{size[0]} x {size[1]} pixels, sides of more than"):
        decode_rgb(png(*size))
    with pytest.raises(BadImageError, match="pixels, more than 64000000"):
        decode_rgb(png(10_000, 10_000))


def test_thin_pictures_take_little_memory(tmp_path: Path) -> None:
    rows = b"\0" * 4 * 60_000  # a filter byte and a black pixel, as often
    (tmp_path / "thin.png").write_bytes(png(1, 60_000, zlib.compress(rows)))
    (tmp_path / "longest.png").write_bytes(png_bytes(noise(80, 80 * MAX_ASPECT)))
    program = f"""
from pathlib import Path
from actors.pictures.codec import BadImageError, decode_rgb, resized_square
for file in Path({str(tmp_path)!r}).iterdir():
    try:
        resized_square(decode_rgb(file.read_bytes()), 448)
    except BadImageError:
        print(file.name)
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) >> 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    refused, megabytes = done.stdout.split()
    assert refused == "thin.png"
    assert int(megabytes) < 200


def test_a_file_is_read_or_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"any")
    assert picture_bytes(tmp_path / "a.png") == b"any"
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    reasons = {
        "pipe.png": "no regular file",
        "large.png": f"{LARGEST_FILE + 1} bytes, more than {LARGEST_FILE}",
        "nowhere.png": "no such file",
        "a.png/b.png": "cannot be read (Not a directory)",
        ".": "no regular file",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImageError) as raised:
            picture_bytes(tmp_path / name)
        assert str(raised.value) == reason
