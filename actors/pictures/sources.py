"""A dataset's images on their way into its artifact: read, checked and passed on part by part."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSelector, FileSystem, FileType

from actors.pictures.codec import BadImageError, decode_rgb, picture_bytes
from cluster.catalog.dataset import SCHEMA, Concept
from cluster.catalog.listing import (
    SPLITS,
    Entry,
    Listing,
    require_images,
    split_of,
)
from cluster.catalog.names import shown_name
from cluster.errors import ConfigError
from cluster.picture_files import is_hidden
from cluster.rows import digest
from cluster.storage import filesystem, parquet_read, resolve

PART_BYTES, PART_ROWS = 32 << 20, 1024
"""Bytes of encoded images in memory at once, but for a part of a single larger one."""
PARQUET_ROWS = 128
READ_SCHEMA = SCHEMA.append(pa.field("reason", pa.string()))
"""Columns of a dataset's rows; `reason` says why an image is refused, null for a good one."""
PARQUET_COLUMNS = ("image", "class_name", "split")
MAY_HAVE = ("group", "path", "caption")


@dataclass(frozen=True)
class DatasetSource:
    """A dataset that is to be written: what is known beforehand, and its rows of READ_SCHEMA."""

    concepts: tuple[Concept, ...]
    content_hash: str
    images: int
    parts: Callable[[], Iterator[pa.Table]]


def from_rows(
    concepts: Sequence[Concept],
    content_hash: str,
    images: int,
    rows: Callable[[], Iterator[dict[str, Any]]],
) -> DatasetSource:
    """Good images that are drawn: rows with the columns of SCHEMA that are not null."""
    return DatasetSource(tuple(concepts), content_hash, images, partial(_drawn_parts, rows))


def from_listing(dataset: str, listing: Listing) -> DatasetSource:
    """Images in files. A file that is missing, no image or not read gets a reason."""
    parts = partial(_listed_parts, dataset, listing)
    return DatasetSource(listing.concepts, listing.content_hash, len(listing.entries), parts)


def from_parquet(dataset: str, uri: str) -> DatasetSource:
    """Images in Parquet, a file or a folder of files, local or a URI.

    Columns: `image` (bytes, or a struct with `bytes` as Hugging Face has it), `class_name`, `split`
    (train, val or test; validation, valid and dev are val); optional `group` (IP or OOP; IP without
    it), `path` and `caption`. Other files of the folder are not read. The content hash is over
    names and sizes of the files. Raises ConfigError if a column is missing, or a class without a
    row to train or test on.
    """
    where = f"parquet: {uri!r}"
    with parquet_read(where, "Parquet"):
        fs, files, unread = _parquet_files(resolve(uri))
        table = ds.dataset(list(files), filesystem=fs, format="parquet")
    types = {name: table.schema.field(name).type for name in table.schema.names}
    for name in PARQUET_COLUMNS:
        if name not in types:
            raise ConfigError(
                f"parquet: {uri!r} has no column {name!r}; allowed: {', '.join(PARQUET_COLUMNS)} "
                f"and, if there are any, {', '.join(MAY_HAVE)}"
            )
    texts = [name for name in ("class_name", "split", *MAY_HAVE) if name in types]
    for name in texts:
        if not (pa.types.is_string(types[name]) or pa.types.is_large_string(types[name])):
            raise ConfigError(f"parquet: column {name!r} is of {types[name]}; allowed: string")
    if not _is_bytes(types["image"]):
        raise ConfigError(f"parquet: column 'image' is of {types['image']}; allowed: binary")
    with parquet_read(where, "Parquet"):
        rows = table.to_table(columns=[name for name in texts if name not in ("path", "caption")])
    pairs = {(*_class_of(row), split_of(row["split"]) or "") for row in rows.to_pylist()}
    concepts = tuple(Concept(*key) for key in sorted({key[:2] for key in pairs if key[0]}))
    label = {(c.name, c.group): i for i, c in enumerate(concepts)}
    require_images(dataset, concepts, {(label[k[:2]], k[2]) for k in pairs if k[0]})
    identities = [*sorted(files.values()), *sorted(unread.items())]
    content_hash = digest(*map(repr, identities)).hex()
    parts = partial(_parquet_parts, dataset, where, table, label, unread)
    return DatasetSource(concepts, content_hash, len(rows), parts)


def _parquet_files(
    uri: str,
) -> tuple[FileSystem, dict[str, tuple[str, int]], dict[str, str]]:
    """Path of every Parquet file to its name below the folder and its size, and what is not read.

    Raises ConfigError if there is none, OSError if the place cannot be read.
    """
    fs, root = filesystem(uri)
    infos = [fs.get_file_info(root)]
    if not infos[0].is_file:
        infos = fs.get_file_info(FileSelector(root, recursive=True))
    files: dict[str, tuple[str, int]] = {}
    unread: dict[str, str] = {}
    for info in sorted(infos, key=lambda info: info.path):
        name = info.path.removeprefix(root)
        if info.type == FileType.Directory:
            continue
        if any(is_hidden(part) or part.startswith("_") for part in name.split("/")):
            unread[name.lstrip("/")] = "hidden"
        elif not info.is_file:
            unread[name.lstrip("/")] = "no regular file"
        elif info.path != root and not name.lower().endswith(".parquet"):
            unread[name.lstrip("/")] = "no Parquet by its suffix"
        else:
            files[info.path] = name, info.size
    if not files:
        raise ConfigError(f"parquet: {uri!r} holds no file *.parquet; allowed: Parquet")
    return fs, files, unread


def _drawn_parts(rows: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[pa.Table]:
    coming = rows()
    while part := list(islice(coming, PART_ROWS)):
        yield pa.Table.from_pylist(part, schema=READ_SCHEMA)


def _listed_parts(dataset: str, listing: Listing) -> Iterator[pa.Table]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in _cut(listing.sizes):
            entries = listing.entries[part]
            read = pool.map(partial(read_image, listing), entries)
            rows = [
                _listed_row(dataset, listing, entry) | {"image": image, "reason": reason}
                for entry, (image, reason) in zip(entries, read, strict=True)
            ]
            yield pa.Table.from_pylist(rows, schema=READ_SCHEMA)
    yield _unread_rows(listing.unread)


def _unread_rows(unread: Mapping[str, str]) -> pa.Table:
    """Refused rows, without an id, of what is no picture of any class."""
    rows = [{"path": path, "reason": reason} for path, reason in unread.items()]
    return pa.Table.from_pylist(rows, schema=READ_SCHEMA)


def _cut(sizes: Sequence[int]) -> Iterator[slice]:
    """Places of neighbours, as many as may be in memory at once."""
    start = part_size = 0
    for end, size in enumerate(sizes):
        if end > start and (part_size + size > PART_BYTES or end - start == PART_ROWS):
            yield slice(start, end)
            start, part_size = end, 0
        part_size += max(size, 0)
    if start < len(sizes):
        yield slice(start, len(sizes))


def _listed_row(dataset: str, listing: Listing, entry: Entry) -> dict[str, Any]:
    label = listing.labels[entry.group, entry.label]
    concept = listing.concepts[label]
    place = "" if entry.place is None else str(entry.place)
    return {
        # The place, too: a split file may name an image twice.
        "id": digest(dataset, entry.group, entry.split, entry.file, place).hex(),
        "dataset": dataset,
        "class_name": concept.name,
        "label": label,
        "group": concept.group,
        "split": entry.split,
        "path": entry.file,
        "order": entry.place,
        "caption": entry.caption,
    }


def read_image(listing: Listing, entry: Entry) -> tuple[bytes | None, str | None]:
    """The bytes of a good image, or why there is none."""
    path = listing.path(entry)
    if path is None:
        return None, "the path leads out of the dataset's folder"
    try:
        return _checked(picture_bytes(path))
    except BadImageError as error:
        return None, str(error)


def _checked(data: bytes) -> tuple[bytes | None, str | None]:
    try:
        decode_rgb(data)
    except BadImageError as error:
        return None, str(error)
    return data, None


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _class_of(row: dict[str, Any]) -> tuple[str, str]:
    """Shown name and group of a Parquet row. Raises ConfigError on an unknown group."""
    group = row.get("group") or "IP"
    if group not in ("IP", "OOP"):
        raise ConfigError(f"parquet: group {group!r}; allowed: IP, OOP")
    return shown_name(row["class_name"] or ""), group


def _parquet_parts(
    dataset: str,
    where: str,
    table: ds.Dataset,
    label: dict[tuple[str, str], int],
    unread: Mapping[str, str],
) -> Iterator[pa.Table]:
    columns = [name for name in (*PARQUET_COLUMNS, *MAY_HAVE) if name in table.schema.names]
    batches = table.to_batches(
        columns=columns, batch_size=PARQUET_ROWS, batch_readahead=1, fragment_readahead=1
    )
    number = count()
    with parquet_read(where, "Parquet"):
        for batch in batches:
            rows = [_parquet_row(dataset, row, next(number), label) for row in batch.to_pylist()]
            if rows:
                yield pa.Table.from_pylist(rows, schema=READ_SCHEMA)
    yield _unread_rows(unread)


def _parquet_row(
    dataset: str, row: dict[str, Any], number: int, label: dict[tuple[str, str], int]
) -> dict[str, Any]:
    name, group = _class_of(row)
    data = row["image"]
    if isinstance(data, dict):
        data = data.get("bytes")
    image, reason = _checked(data or b"")
    split = split_of(row["split"])
    if split is None:
        image, reason = None, f"split {row['split']!r}; allowed: {', '.join(SPLITS)}"
    if not name:
        image, reason = None, "no class name"
    return {
        "id": digest(dataset, "parquet", str(number)).hex(),
        "dataset": dataset,
        "class_name": name,
        "label": label.get((name, group)),
        "group": group,
        "split": split or row["split"],
        "image": image,
        "path": row.get("path"),
        "caption": row.get("caption"),
        "reason": reason,
    }
