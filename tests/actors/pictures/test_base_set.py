"""What a worker sees of a base set: no bad row, no repeated row, two images of one caption."""

import io
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.pictures.base_set import BaseSet, BaseSetRows, open_base_set
from actors.pictures.codec import decode_rgb
from cluster.artifacts import Artifact, draft
from cluster.cache import GROWING
from cluster.errors import ConfigError
from tests.actors.decoded_base_set import DecodedBaseSet
from tests.actors.small_base_set import publish, row

NUMBERS = (4, 3)
"""Views, and numbers of each."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def several_files(storage: Path, rows: list[dict[str, Any]], group: int = 3) -> Artifact:
    """The rows in files of seven, in row groups of `group`."""
    out = draft(str(storage), "images", "noise", content={"n": len(rows)}, config={}, inputs={})
    for start in range(0, len(rows), 7):
        with out.open_file(f"rows/part-{start:04}.parquet") as stream:
            table = pa.Table.from_pylist(rows[start : start + 7])
            pq.write_table(table, stream, row_group_size=group)
    return out.publish({"rows": len(rows)})


def shuffled(captions: int, **size: int) -> list[dict[str, Any]]:
    """Four views of each caption of two classes, in no order."""
    rows = [
        row(name, index, view, **size)
        for name in ("cat", "dog")
        for index in range(captions // 2)
        for view in range(4)
    ]
    random.Random(0).shuffle(rows)
    return rows


def lose_images(file: Path) -> None:
    """Whoever reads the column of images finds zeros, where nothing can be unpacked."""
    with pq.ParquetFile(file) as parquet:
        group = parquet.metadata.row_group(0)
        images = group.column(parquet.schema_arrow.names.index("image"))
        start = images.dictionary_page_offset or images.data_page_offset
    with file.open("r+b") as stream:
        stream.seek(start)
        stream.write(bytes(images.total_compressed_size))


def file_of_pixels(cache: Path) -> Path:
    (file,) = cache.glob(f"*/decoded-*/*{GROWING}")
    return file


def images_drawn(data: BaseSet, rows: Sequence[int], occasions: int = 40) -> set[bytes]:
    """All images that show up on so many occasions."""
    drawn = (data.draw(rows, f"0/{n}", NUMBERS)[0] for n in range(occasions))
    return {image.tobytes() for pair in drawn for images in pair for image in images}


def pixels_of(image: dict[str, Any]) -> bytes:
    return np.asarray(decode_rgb(image["image"])).transpose(2, 0, 1).tobytes()


def in_jpeg(pictures: list[dict[str, Any]]) -> None:
    """Oblong and of another size, too."""
    for number, picture in enumerate(pictures):
        image = decode_rgb(picture["image"]).resize((24 + number % 5, 22))
        image.save(buffer := io.BytesIO(), format="JPEG")
        picture["image"] = buffer.getvalue()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kept_bytes", [0, 30_000, 10**9])
def test_draws_are_those_of_a_base_set_that_is_decoded_beforehand(
    tmp_path: Path, threads: int, kept_bytes: int
) -> None:
    """To the bit, whatever is kept: refused and repeated rows, other sizes, other formats."""
    rows = shuffled(10)
    rows[3]["reason"] = rows[17]["reason"] = "too dark"
    in_jpeg(rows[20:28])
    alone = row("owl", 0, 1)
    artifact = several_files(tmp_path, [alone, *rows, rows[9], rows[30]])
    plain = DecodedBaseSet(BaseSetRows(artifact))
    data = open_base_set(BaseSetRows(artifact), threads=threads, kept_bytes=kept_bytes)
    assert [caption.decode() for caption in data.captions] == plain.captions
    assert np.diff(data.starts).tolist() == list(map(len, plain.views))
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(len(data))
        data.ask(order[4:], f"0/{epoch}", NUMBERS)
        for some in (order[:4], order[4:]):
            images, uniform = data.draw(some, f"0/{epoch}", NUMBERS)
            expected_images, expected_uniform = plain.draw(some, f"0/{epoch}", NUMBERS)
            assert np.array_equal(images, expected_images)
            assert np.array_equal(uniform, expected_uniform)


def test_refused_broken_and_repeated_rows_are_left_out(tmp_path: Path) -> None:
    rows = [row("cat", index, view) for index in range(4) for view in range(4)]
    good = {pixels_of(row) for row in [*rows[2:4], *rows[8:]]}
    rows[0]["reason"] = "too dark"
    rows[1]["image"] = rows[1]["image"][:60]
    for view in (0, 1, 2):
        rows[4 + view]["image"] = b"no picture"
    artifact = publish(tmp_path, [*rows, rows[9]])
    news: list[tuple[str, str]] = []
    data = open_base_set(BaseSetRows(artifact), tell=lambda *told: news.append(told))
    assert sorted(np.diff(data.starts)) == [3, 4, 4, 4]
    assert images_drawn(data, range(4)) == good, "the second caption has one image left"
    files = {place.rpartition(", row ")[0] for place, _ in news}
    assert files == {artifact.file("rows/part-0.parquet")}
    told = [int(place.rpartition(" ")[2]) for place, _ in news]
    assert sorted(told) == [1, 4, 5, 6], "each once"
    assert "not a readable image" in news[0][1]


def test_what_stands_for_a_broken_image_is_the_same_for_every_worker(tmp_path: Path) -> None:
    rows = [row("cat", index, view) for index in range(6) for view in range(4)]
    for number in (1, 8, 9, 10, 22):
        rows[number]["image"] = b"no picture"
    artifact = BaseSetRows(publish(tmp_path, rows))
    first, second = open_base_set(artifact, kept_bytes=9_000), open_base_set(artifact, threads=2)
    for epoch in range(10):
        images, uniform = first.draw(range(6), f"0/{epoch}", NUMBERS)
        for caption in reversed(range(6)):
            alone, its_uniform = second.draw([caption], f"0/{epoch}", NUMBERS)
            assert np.array_equal(alone[:, 0], images[:, caption])
            assert np.array_equal(its_uniform[:, 0], uniform[:, caption])
        assert (images[0] != images[1]).any(axis=(1, 2, 3)).all()


def test_a_name_that_is_a_path_is_a_name(tmp_path: Path) -> None:
    rows = [row(name, 0, view) for name in ("../../x", "a/b", "a") for view in range(2)]
    assert len(open_base_set(BaseSetRows(publish(tmp_path, rows)))) == 3


def test_captions_are_counted_without_their_images(tmp_path: Path) -> None:
    rows = [row("cat", index, view) for index in range(3) for view in range(4)]
    for view in range(3):
        rows[view]["reason"] = "empty caption"
    artifact = publish(tmp_path, rows)
    lose_images(Path(artifact.file("rows", "part-0.parquet")))
    with pytest.raises(ConfigError, match="cannot be read"):
        list(BaseSetRows(artifact).good([]))
    assert BaseSetRows(artifact).count_captions() == 2


def test_a_base_set_whose_rows_are_all_refused_has_no_caption(tmp_path: Path) -> None:
    rows = [row("cat", 0, view) | {"reason": "too dark"} for view in range(4)]
    assert BaseSetRows(publish(tmp_path, rows)).count_captions() == 0


def test_views_depend_on_caption_and_stream_alone(tmp_path: Path) -> None:
    rows = [row("cat", index, view) for index in range(5) for view in range(4)]
    data = open_base_set(BaseSetRows(publish(tmp_path, rows)))
    images, numbers = data.draw([0, 1, 2, 3, 4], "0/7", (4, 3))
    again, alone = data.draw([3], "0/7", (4, 3))
    assert (images[:, 3] == again[:, 0]).all()
    assert (numbers[:, 3] == alone[:, 0]).all()
    assert (images[0] != images[1]).any(axis=(1, 2, 3)).all(), "two different images of a caption"
    assert (data.draw([3], "0/8", (4, 3))[1] != alone).any()


def test_images_of_another_size_are_made_alike(tmp_path: Path) -> None:
    rows = [row("cat", 0, 0), row("cat", 0, 1, size=31)]
    images, _ = open_base_set(BaseSetRows(publish(tmp_path, rows))).draw([0], "0/0", NUMBERS)
    assert images.shape == (2, 1, 3, 20, 20)
    assert images.dtype == np.uint8


def test_a_set_without_any_image_is_an_error(tmp_path: Path) -> None:
    rows = [row("cat", 0, view) | {"image": b""} for view in range(4)]
    artifact = publish(tmp_path, rows)
    with pytest.raises(ConfigError, match="no image that can be decoded"):
        open_base_set(BaseSetRows(artifact))


def test_captions_that_all_lack_images_are_an_error_and_no_endless_search(tmp_path: Path) -> None:
    rows = [row("cat", 0, view) for view in range(3)]
    rows[1]["image"] = rows[2]["image"] = b""
    data = open_base_set(BaseSetRows(publish(tmp_path, rows)), tell=lambda *told: None)
    with pytest.raises(ConfigError, match="captions in a row have no two images"):
        data.draw([0], "0/0", NUMBERS)


def test_a_node_keeps_as_many_decoded_bytes_as_declared(tmp_path: Path, cache: Path) -> None:
    artifact = BaseSetRows(several_files(tmp_path, shuffled(10)))
    bound = 10_000
    data = open_base_set(artifact, kept_bytes=bound)
    images_drawn(data, range(10))
    size = file_of_pixels(cache).stat().st_size
    assert bound - 3 * 20 * 20 - 4 < size <= bound
    images_drawn(open_base_set(artifact, kept_bytes=3_000), range(10))
    assert 1_000 < file_of_pixels(cache).stat().st_size <= 3_000


def test_kept_images_are_read_in_place_of_the_artifact(tmp_path: Path, cache: Path) -> None:
    artifact = several_files(tmp_path, shuffled(4))
    before = open_base_set(BaseSetRows(artifact), kept_bytes=10**6)
    expected = images_drawn(before, range(4))
    after = open_base_set(BaseSetRows(artifact), kept_bytes=10**6)
    for file in Path(artifact.uri).glob("rows/*"):
        file.unlink()
    assert images_drawn(after, range(4)) == expected


def test_a_half_written_kept_image_is_decoded_again(tmp_path: Path, cache: Path) -> None:
    """As a power failure leaves it."""
    artifact = BaseSetRows(several_files(tmp_path, shuffled(4)))
    expected = images_drawn(open_base_set(artifact, kept_bytes=10**6), range(4))
    file = file_of_pixels(cache)
    whole = file.read_bytes()
    size = len(whole) // 16
    with file.open("r+b") as pixels:
        for record in range(16):
            pixels.seek(record * size + size // 2)
            pixels.write(bytes(size // 2))
    assert images_drawn(open_base_set(artifact, kept_bytes=10**6), range(4)) == expected
    assert file.read_bytes() == whole, "written anew"
    os.truncate(file, 5 * size + 7)
    assert images_drawn(open_base_set(artifact, kept_bytes=10**6), range(4)) == expected


def test_black_images_are_no_holes_of_the_file(tmp_path: Path, cache: Path) -> None:
    rows = [row("cat", 0, view) for view in range(2)]
    for picture in rows:
        Image.new("RGB", (20, 20)).save(buffer := io.BytesIO(), format="PNG")
        picture["image"] = buffer.getvalue()
    artifact = BaseSetRows(publish(tmp_path, rows))
    for _ in range(2):
        images, _ = open_base_set(artifact, kept_bytes=10**6).draw([0], "0/0", NUMBERS)
        assert not images.any()
    assert any(file_of_pixels(cache).read_bytes()), "their checksum"
