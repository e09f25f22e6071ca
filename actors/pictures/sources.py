"""A dataset's images on their way into its artifact: read, checked and passed on part by part."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from actors.pictures.codec import BadImageError, decode_rgb, picture_bytes
from cluster.catalog.dataset import SCHEMA, Concept
from cluster.catalog.listing import SPLITS, Entry, Listing, require_images, shown_name
from cluster.errors import ConfigError
from cluster.rows import digest
from cluster.storage import filesystem, resolve

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
    """Images in files. A file that is missing or no image gets a reason."""
    parts = partial(_listed_parts, dataset, listing)
    return DatasetSource(listing.concepts, listing.content_hash, len(listing.entries), parts)


def from_parquet(dataset: str, uri: str) -> DatasetSource:
    """Images in Parquet, a file or a folder of files, local or a URI.

    Columns: `image` (bytes, or a struct with `bytes` as Hugging Face has it), `class_name`, `split`
    (train, val or test); optional `group` (IP or OOP; IP without it), `path` and `caption`. The
    content hash is over names and sizes of the files. Raises ConfigError if a column is missing, or
    a class without a row to train or test on.
    """
    fs, path = filesystem(resolve(uri))
    try:
        table = ds.dataset(path, filesystem=fs, format="parquet")
        sizes = {
            f.path.removeprefix(path): fs.get_file_info(f.path).size for f in table.get_fragments()
        }
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"parquet: {uri!r} cannot be read ({error}); allowed: Parquet") from error
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
    rows = table.to_table(columns=[name for name in texts if name not in ("path", "caption")])
    pairs = {(*_class_of(row), row["split"]) for row in rows.to_pylist()}
    concepts = tuple(Concept(*key) for key in sorted({key[:2] for key in pairs if key[0]}))
    label = {(c.name, c.group): i for i, c in enumerate(concepts)}
    require_images(dataset, concepts, {(label[k[:2]], k[2]) for k in pairs if k[0]})
    content_hash = digest(*[repr(item) for item in sorted(sizes.items())]).hex()
    parts = partial(_parquet_parts, dataset, table, label)
    return DatasetSource(concepts, content_hash, len(rows), parts)


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
    dataset: str, table: ds.Dataset, label: dict[tuple[str, str], int]
) -> Iterator[pa.Table]:
    columns = [name for name in (*PARQUET_COLUMNS, *MAY_HAVE) if name in table.schema.names]
    batches = table.to_batches(
        columns=columns, batch_size=PARQUET_ROWS, batch_readahead=1, fragment_readahead=1
    )
    number = count()
    for batch in batches:
        rows = [_parquet_row(dataset, row, next(number), label) for row in batch.to_pylist()]
        if rows:
            yield pa.Table.from_pylist(rows, schema=READ_SCHEMA)


def _parquet_row(
    dataset: str, row: dict[str, Any], number: int, label: dict[tuple[str, str], int]
) -> dict[str, Any]:
    name, group = _class_of(row)
    data = row["image"]
    if isinstance(data, dict):
        data = data.get("bytes")
    image, reason = _checked(data or b"")
    if row["split"] not in SPLITS:
        image, reason = None, f"split {row['split']!r}; allowed: {', '.join(SPLITS)}"
    if not name:
        image, reason = None, "no class name"
    return {
        "id": digest(dataset, "parquet", str(number)).hex(),
        "dataset": dataset,
        "class_name": name,
        "label": label.get((name, group)),
        "group": group,
        "split": row["split"],
        "image": image,
        "path": row.get("path"),
        "caption": row.get("caption"),
        "reason": reason,
    }
