"""What a worker sees of a base set: no bad row, no repeated row, two images of one caption."""

from pathlib import Path

import numpy as np
import pytest

from actors.pictures.base_set import BaseSetRows, decode, open_base_set
from tests.actors.small_base_set import publish, row


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_refused_broken_and_repeated_rows_are_left_out(tmp_path: Path) -> None:
    rows = [row("cat", index, view) for index in range(4) for view in range(4)]
    rows[0]["reason"] = "too dark"
    rows[1]["image"] = rows[1]["image"][:60]
    for view in (0, 1, 2):
        rows[4 + view]["image"] = b"no picture"
    artifact = publish(tmp_path, [*rows, rows[9]])
    data = open_base_set(decode(BaseSetRows(artifact)))
    assert sorted(map(len, data.views)) == [2, 4, 4]  # the second caption has one image left
    assert len({image for views in data.views for image in views}) == 10


def test_a_name_that_is_a_path_is_a_name(tmp_path: Path) -> None:
    rows = [row(name, 0, view) for name in ("../../x", "a/b", "a") for view in range(2)]
    assert len(open_base_set(decode(BaseSetRows(publish(tmp_path, rows))))) == 3


def test_captions_are_counted_without_their_images(tmp_path: Path) -> None:
    rows = [row("cat", index, view) for index in range(3) for view in range(4)]
    for view in range(3):
        rows[view]["reason"] = "empty caption"
    assert BaseSetRows(publish(tmp_path, rows)).count_captions() == 2


def test_views_depend_on_caption_and_stream_alone(tmp_path: Path) -> None:
    rows = [row("cat", index, view) for index in range(5) for view in range(4)]
    data = open_base_set(decode(BaseSetRows(publish(tmp_path, rows))))
    images, numbers = data.draw([0, 1, 2, 3, 4], "0/7", (4, 3))
    again, alone = data.draw([3], "0/7", (4, 3))
    assert (images[:, 3] == again[:, 0]).all()
    assert (numbers[:, 3] == alone[:, 0]).all()
    assert (images[0] != images[1]).any(axis=(1, 2, 3)).all(), "two different images of a caption"
    assert (data.draw([3], "0/8", (4, 3))[1] != alone).any()


def test_images_of_another_size_are_made_alike(tmp_path: Path) -> None:
    rows = [row("cat", 0, 0), row("cat", 0, 1, size=31)]
    data = open_base_set(decode(BaseSetRows(publish(tmp_path, rows))))
    assert data.pixels.shape == (2, 3, 20, 20)
    assert data.pixels.dtype == np.uint8


def test_a_set_without_any_image_is_an_error(tmp_path: Path) -> None:
    rows = [row("cat", 0, view) | {"image": b""} for view in range(4)]
    artifact = publish(tmp_path, rows)
    with pytest.raises(ValueError, match="no image that can be decoded"):
        decode(BaseSetRows(artifact))
