import pytest
from PIL import Image

from actors.pictures.codec import BadImageError, decode_rgb, png_bytes


def test_bytes_that_are_no_image_are_refused() -> None:
    for data in (b"", b"GIF89a", png_bytes(Image.new("RGB", (64, 64)))[:-30]):
        with pytest.raises(BadImageError):
            decode_rgb(data)
