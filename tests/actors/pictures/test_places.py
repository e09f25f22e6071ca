"""Pictures are read from where the plan says they are."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from actors.pictures import places
from actors.pictures.places import (
    PLACE,
    image_places,
    images_in_order,
    read_images,
    texts_of_ids,
)
from cluster.artifacts import draft
from cluster.errors import ConfigError


@pytest.mark.parametrize("there", ["here", "distant"])
def test_every_picture_is_found_in_files_of_several_row_groups(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often and by how many threads they are read; distant: not on this machine's disk."""
    if there == "distant":
        place = SubTreeFileSystem("/", LocalFileSystem()), str(tmp_path / "images")[1:]
        monkeypatch.setattr(
            places, "filesystem", lambda uri: (place[0], f"{place[1]}/{Path(uri).name}")
        )
    out = draft(str(tmp_path), "images", "bytes", content={}, config={}, inputs={})
    folder = Path(out.uri, "rows")
    folder.mkdir()
    rows = [
        {"id": f"{number * 7 % 300:032x}", "image": b"%d" % (number * 7 % 300), "reason": ""}
        for number in range(300)
    ]
    rows[5]["reason"] = "too dark"
    rows.append(rows[9])  # written twice by a run that was killed
    for file, start in enumerate(range(0, len(rows), 160)):
        part = pa.Table.from_pylist(rows[start : start + 160])
        pq.write_table(part, folder / f"{file}.parquet", row_group_size=70)
    places_of = image_places(out.publish({"rows": 300}), ["reason"], pc.field("reason") == "")
    plan = texts_of_ids(places_of)
    assert plan["id"].to_pylist() == [f"{i:032x}" for i in range(300) if i != 35]
    order = np.random.default_rng(0).permutation(len(plan))
    batch = {name: plan[name].to_numpy(zero_copy_only=False)[order] for name in plan.column_names}
    with ThreadPoolExecutor(4) as threads:
        for images in threads.map(read_images, [batch] * 8):
            assert images == [b"%d" % int(row, 16) for row in batch["id"]]


def test_pictures_in_order_are_read_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two files, whose row groups are opened once, some pictures left out."""
    out = draft(str(tmp_path), "images", "bytes", content={}, config={}, inputs={})
    for file in range(2):
        rows = [
            {"id": f"{file * 100 + row:032x}", "image": b"%d %d" % (file, row)} for row in range(90)
        ]
        with out.open_file(f"rows/part-{file}.parquet") as stream:
            pq.write_table(pa.Table.from_pylist(rows), stream, row_group_size=40)
    plan = image_places(out.publish({"rows": 180}), [], pc.scalar(True))
    some = plan.take(np.delete(np.arange(180), np.arange(3, 180, 7)))
    batch = {name: some[name].to_numpy() for name in PLACE}
    read, groups = places.pq.ParquetFile.iter_batches, list[int]()

    def noted(self: pq.ParquetFile, *arguments: object, **options: list[int]) -> object:
        groups.extend(options["row_groups"])
        return read(self, *arguments, **options)

    monkeypatch.setattr(places.pq.ParquetFile, "iter_batches", noted)
    assert list(images_in_order(batch)) == read_images(batch)
    assert groups == [0, 1, 2] * 4, "twice of either file: here, and by read_images"


def test_a_table_may_have_columns_of_the_same_names(tmp_path: Path) -> None:
    out = draft(str(tmp_path), "images", "named", content={}, config={}, inputs={})
    rows = [
        {"id": f"{i:032x}", "image": b"%d" % i, "file": "x", "place": "y", "which": "z"}
        | {"source": None}
        for i in range(3)
    ]
    out.write_table("rows", pa.Table.from_pylist(rows))
    plan = image_places(out.publish({"rows": 3}), [], pc.field("which") == "z")
    assert plan.column_names == ["id", "source", "file", "place"]
    batch = {name: np.array(plan[name].to_pylist()) for name in plan.column_names}
    assert read_images(batch) == [b"0", b"1", b"2"]


def test_an_id_that_is_none_is_one_line(tmp_path: Path) -> None:
    out = draft(str(tmp_path), "images", "named", content={}, config={}, inputs={})
    out.write_table("rows", pa.table({"id": ["0" * 32, "cat"], "image": [b"", b""]}))
    artifact = out.publish({"rows": 2})
    with pytest.raises(ConfigError, match=r"^artifact: .* has a row with the id .cat.; all"):
        image_places(artifact, [], pc.scalar(True))
