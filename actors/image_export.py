"""A base set in the layouts that other programs read, written file by file."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from cluster.artifacts import Artifact, open_table
from cluster.rows import slug
from cluster.storage import published

Layout = Literal["views", "webdataset", "parquet"]
ROWS_AT_ONCE = 256
INDEX = "captions.jsonl"
"""Of the layout "views": one line per picture, for what a path cannot hold."""
SAID = ("dataset", "class_name", "index", "view", "caption")
"""What every layout keeps of a row, besides the picture."""

Row = dict[str, Any]
Advance = Callable[[int], None]


def good_rows(artifact: Artifact) -> Iterator[Row]:
    """Rows of a base set (kind "images") that hold a picture, none twice; bounded memory."""
    seen: set[str] = set()
    table = open_table(artifact, "rows")
    columns = ["id", *SAID, "reason", "image"]
    for batch in table.to_batches(columns=columns, batch_size=ROWS_AT_ONCE):
        for row in batch.to_pylist():
            if not row["reason"] and row["id"] not in seen:
                seen.add(row["id"])
                yield row


def write_views(
    rows: Iterator[Row], fs: FileSystem, folder: str, per_file: int, advance: Advance
) -> None:
    """ImagineFSL's iBase: view1 … viewN, the same paths in each, a folder per class.

    A class's folder and a file's name are slugs, for a class may be called "a/b"; what they stand
    for is in INDEX, written last. per_file: of no use here, a picture is a file.
    """
    lines = []
    for row in rows:
        place = f"{slug(row['class_name'])}/{slug(row['dataset'])}-{row['index']:06d}.png"
        file = f"view{row['view'] + 1}/{place}"
        _write(fs, f"{folder}/{file}", row["image"])
        lines.append(json.dumps({"file": file} | {name: row[name] for name in SAID}))
        advance(1)
    _write(fs, f"{folder}/{INDEX}", "".join(f"{line}\n" for line in sorted(lines)).encode())


def write_webdataset(
    rows: Iterator[Row], fs: FileSystem, folder: str, per_file: int, advance: Advance
) -> None:
    """WebDataset shards 000000.tar, …: per picture ID.png, ID.txt (caption) and ID.json (SAID)."""
    for number, part in enumerate(_parts(rows, per_file)):
        with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as tar:
            for row in part:
                card = json.dumps({name: row[name] for name in SAID}).encode()
                caption = row["caption"].encode()
                for suffix, data in (("png", row["image"]), ("txt", caption), ("json", card)):
                    entry = tarfile.TarInfo(f"{row['id']}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        _write(fs, f"{folder}/{number:06d}.tar", buffer.getvalue())
        advance(len(part))


def write_parquet(
    rows: Iterator[Row], fs: FileSystem, folder: str, per_file: int, advance: Advance
) -> None:
    """data/train-00000.parquet, …, whose `image` Hugging Face's `datasets` reads as pictures."""
    types = {"index": "int64", "view": "int64"}
    said = [(name, pa.int64() if name in types else pa.string()) for name in ("id", *SAID)]
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        name: {"dtype": types.get(name, "string"), "_type": "Value"} for name in ("id", *SAID)
    }
    features["image"] = {"_type": "Image"}
    card = json.dumps({"info": {"features": features}})
    schema = pa.schema([*said, ("image", picture)], metadata={"huggingface": card})
    for number, part in enumerate(_parts(rows, per_file)):
        made = [
            {name: row[name] for name in ("id", *SAID)}
            | {"image": {"bytes": row["image"], "path": f"{row['id']}.png"}}
            for row in part
        ]
        pq.write_table(pa.Table.from_pylist(made, schema), buffer := io.BytesIO())
        _write(fs, f"{folder}/data/train-{number:05d}.parquet", buffer.getvalue())
        advance(len(part))


WRITERS: dict[str, Callable[[Iterator[Row], FileSystem, str, int, Advance], None]] = {
    "views": write_views,
    "webdataset": write_webdataset,
    "parquet": write_parquet,
}


def _parts(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    part: list[Row] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _write(fs: FileSystem, path: str, data: bytes) -> None:
    fs.create_dir(path.rpartition("/")[0], recursive=True)
    with published(fs, path) as target, fs.open_output_stream(target) as stream:
        stream.write(data)
