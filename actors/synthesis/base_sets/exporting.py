"""A base set in the layouts that other programs read, written file by file."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from actors.pictures.codec import suffix
from cluster.catalog.names import composed
from cluster.errors import ConfigError
from cluster.rows import digest, slug
from cluster.storage import write

Layout = Literal["views", "webdataset", "parquet"]
INDEX = "captions.jsonl"
"""Of the layout "views": one line per picture, for what a path cannot hold."""
COLUMNS = ("dataset", "class_name", "index", "view", "caption")
"""What every layout keeps of a row, besides its id and picture."""

Row = dict[str, Any]
Advance = Callable[[int], None]


def write_views(
    rows: Iterator[Row], fs: FileSystem, folder: str, per_file: int, advance: Advance
) -> None:
    """ImagineFSL's iBase: view1 … viewN, the same paths in each, a folder per class.

    A class's folder and a file's name are slugs, for a class may be called "a/b"; what they stand
    for is in INDEX, written last. per_file: of no use here, a picture is a file. Raises ConfigError
    for two pictures of one place.
    """
    lines, files = [], set()
    for row in rows:
        place = f"{_slug(row['class_name'])}/{_slug(row['dataset'])}-{row['index']:06d}"
        stem = f"view{row['view'] + 1}/{place}"
        if stem in files:
            raise ConfigError(
                f"images: two pictures are view {row['view']} of caption {row['index']} of class "
                f"{row['class_name']!r} in dataset {row['dataset']!r}; allowed with the layout "
                "views: one"
            )
        files.add(stem)
        file = f"{stem}{suffix(row['image'])}"
        write(fs, f"{folder}/{file}", row["image"])
        lines.append(json.dumps({"file": file} | {name: row[name] for name in COLUMNS}))
        advance(1)
    write(fs, f"{folder}/{INDEX}", "".join(f"{line}\n" for line in sorted(lines)).encode())


def write_webdataset(
    rows: Iterator[Row], fs: FileSystem, folder: str, per_file: int, advance: Advance
) -> None:
    """WebDataset shards 000000.tar, …: per picture ID.png (.jpg, .webp), ID.txt (caption), ID.json
    (COLUMNS)."""
    for number, part in enumerate(_parts(rows, per_file)):
        with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as tar:
            for row in part:
                card = json.dumps({name: row[name] for name in COLUMNS}).encode()
                caption = row["caption"].encode()
                picture = (suffix(row["image"]), row["image"])
                for end, data in (picture, (".txt", caption), (".json", card)):
                    entry = tarfile.TarInfo(f"{row['id']}{end}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        write(fs, f"{folder}/{number:06d}.tar", buffer.getvalue())
        advance(len(part))


def write_parquet(
    rows: Iterator[Row], fs: FileSystem, folder: str, per_file: int, advance: Advance
) -> None:
    """data/train-00000.parquet, …, whose `image` Hugging Face's `datasets` reads as pictures."""
    types = {"index": "int64", "view": "int64"}
    fields = [(name, pa.int64() if name in types else pa.string()) for name in ("id", *COLUMNS)]
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        name: {"dtype": types.get(name, "string"), "_type": "Value"} for name in ("id", *COLUMNS)
    }
    features["image"] = {"_type": "Image"}
    card = json.dumps({"info": {"features": features}})
    schema = pa.schema([*fields, ("image", picture)], metadata={"huggingface": card})
    for number, part in enumerate(_parts(rows, per_file)):
        records = [
            {name: row[name] for name in ("id", *COLUMNS)}
            | {"image": {"bytes": row["image"], "path": f"{row['id']}{suffix(row['image'])}"}}
            for row in part
        ]
        pq.write_table(pa.Table.from_pylist(records, schema), buffer := io.BytesIO())
        write(fs, f"{folder}/data/train-{number:05d}.parquet", buffer.getvalue())
        advance(len(part))


WRITERS: dict[str, Callable[[Iterator[Row], FileSystem, str, int, Advance], None]] = {
    "views": write_views,
    "webdataset": write_webdataset,
    "parquet": write_parquet,
}


def _slug(name: str) -> str:
    """The slug of a name, another one for a name of the same letters that is not composed (NFC)."""
    marks = "" if composed(name) == name else f"-{digest(name, size=4).hex()}"
    return slug(name) + marks


def _parts(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while part := list(islice(rows, size)):
        yield part
