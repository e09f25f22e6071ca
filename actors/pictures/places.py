"""Where an artifact's pictures lie, and reading some of them: plans hold places, not pictures."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import NativeFile
from pyarrow.fs import LocalFileSystem

from cluster.artifacts import Artifact
from cluster.errors import ConfigError
from cluster.rows import ID_LENGTH, PACKED, id_texts, packed_ids
from cluster.storage import filesystem

PLACE = ("source", "file", "place")
"""Columns of a picture's place: URI of the artifact, file below its folder, row of that file."""
ROWS_AT_ONCE = 8
"""Pictures of a row group that are unpacked at a time: none after the last that is wanted."""
BUFFER_BYTES, DISTANT_BUFFER_BYTES = 1 << 20, 1 << 22
"""Read at a time, on a disk and from an object store, where a request takes as long as to read so
much: a base set's row groups (`cluster.compaction`) take one each."""
FILES_OPEN = 512
"""Of those on object stores."""


def image_places(artifact: Artifact, columns: Sequence[str], which: pc.Expression) -> pa.Table:
    """`id`, these columns and PLACE of the rows that `which` holds for, in order of id, none twice.

    artifact: with a table `rows` that has `id` and `image`; no image is read. Its other columns may
    have any name, those of PLACE too. Millions of rows are held: ids are PACKED (`texts_of_ids`),
    texts are dictionary-encoded, most being there many times, and places are int32. Raises
    ConfigError if an id is none of ours.
    """
    parts = places_by_file(artifact, columns, which)
    try:
        return without_repeats(pa.concat_tables(map(_encoded, parts)))
    except ValueError as error:
        raise ConfigError(
            f"artifact: {artifact.uri!r} has a row with the id {error}; allowed: {ID_LENGTH} "
            "hexadecimal digits, as it was published"
        ) from error


def _encoded(rows: pa.Table) -> pa.Table:
    """Large texts, for there may be more than 2 GB of them."""
    for number, name in enumerate(rows.column_names):
        column = rows[name]
        if name == "id":
            column = pa.chunked_array([packed_ids(part) for part in column.chunks], PACKED)
        elif name == "place":
            column = column.cast(pa.int32())
        elif pa.types.is_string(column.type) or pa.types.is_null(column.type):
            column = column.cast(pa.large_string()).dictionary_encode()
        rows = rows.set_column(number, name, column)
    return rows


def texts_of_ids(rows: pa.Table) -> pa.Table:
    """Rows, some millions at most, with their ids as texts where these are PACKED."""
    if rows["id"].type != PACKED:
        return rows
    texts = pa.chunked_array([id_texts(part) for part in rows["id"].chunks], pa.string())
    return rows.set_column(rows.schema.get_field_index("id"), "id", texts)


def places_by_file(
    artifact: Artifact, columns: Sequence[str], which: pc.Expression
) -> Iterator[pa.Table]:
    """The rows of `image_places` file by file, in the order of the files; an id may be there
    twice."""
    fs, folder = artifact.filesystem()
    rows = artifact.open_table("rows")
    wanted = {name: pc.field(name) for name in ("id", *columns)}
    for path in rows.files:
        # Of its own: the table's fragments would keep what the ends of all files say.
        fragment = rows.format.make_fragment(path, fs)
        with artifact.damage_told("rows"):
            part = fragment.to_table(schema=rows.schema, columns=wanted | {"which": which})
        numbers = np.flatnonzero(part["which"].fill_null(False).to_numpy())
        part = part.select(list(wanted)).take(numbers)
        place = (artifact.uri, path.removeprefix(f"{folder}/"))
        for name, value in zip(PLACE, place, strict=False):
            part = part.append_column(name, pa.repeat(value, len(part)))
        yield part.append_column("place", pa.array(numbers))


def without_repeats(rows: pa.Table) -> pa.Table:
    """In order of `id`, of equal ones the first."""
    order = pc.sort_indices(rows["id"])  # stable
    for number, name in enumerate(rows.column_names):  # no column but this one is there twice
        rows = rows.set_column(number, name, in_one_piece(rows[name]))
        rows = rows.set_column(number, name, rows[name].take(order))
    ids = rows["id"]
    repeated = pc.equal(ids.slice(1), ids.slice(0, max(len(rows) - 1, 0))).to_numpy()
    return rows.filter(pa.array(np.append([True], ~repeated))) if repeated.any() else rows


def in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """Of a column that may be dictionary-encoded, each part by itself."""
    # Millions of rows may be copied: Arrow keeps what it has freed, up to twice of what it holds.
    pa.default_memory_pool().release_unused()
    if not column.num_chunks:  # of which older pyarrows make no dictionary
        return pa.nulls(0, column.type)
    return column.unify_dictionaries().combine_chunks()


def read_images(batch: dict[str, np.ndarray]) -> list[bytes]:
    """The encoded image of every row of a batch with the columns PLACE, in the order of the batch.

    Reads of each file the row groups that hold one of them, as a stream.
    """
    return [row["image"] for row in read_rows(batch, ["image"])]


def images_in_order(batch: dict[str, np.ndarray]) -> Iterator[bytes]:
    """The encoded images of rows that are in order of PLACE, none twice: every row group that
    holds one is read once, as a stream, however few images are taken at a time."""
    files = zip(batch["source"].tolist(), batch["file"].tolist(), strict=True)
    start = 0
    for (source, file), rows in groupby(files):
        places = batch["place"][start : start + sum(1 for _ in rows)]
        start += len(places)
        for row in _rows_at(source, file, places, ["image"]):
            yield row["image"]


def read_rows(batch: dict[str, np.ndarray], columns: Sequence[str]) -> list[dict[str, Any]]:
    """These columns of what `read_images` reads."""
    files = list(zip(batch["source"].tolist(), batch["file"].tolist(), strict=True))
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row in np.argsort(batch["place"], kind="stable"):
        rows_of.setdefault(files[row], []).append(int(row))
    by_row: dict[int, dict[str, Any]] = {}
    for (source, file), rows in rows_of.items():
        read = _rows_at(source, file, batch["place"][rows], columns)
        by_row.update(zip(rows, read, strict=True))
    return [by_row[row] for row in range(len(files))]


def _rows_at(
    source: str, file: str, places: np.ndarray, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """places: in ascending order, none twice."""
    with _parquet(source, file) as parquet:
        start = 0
        for group in range(parquet.num_row_groups):
            end = start + parquet.metadata.row_group(group).num_rows
            if not ((places >= start) & (places < end)).any():
                start = end
                continue
            for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
                offsets = places[(places >= start) & (places < start + len(batch))] - start
                yield from batch.take(pa.array(offsets)).to_pylist()
                start += len(batch)
                if start > places[-1]:
                    return


def _parquet(source: str, file: str) -> pq.ParquetFile:
    fs, folder = filesystem(source)
    # With pre_buffer, which is the default, all images of a row group are in memory at once.
    if isinstance(fs, LocalFileSystem):
        path = f"{folder}/{file}"
        return pq.ParquetFile(path, filesystem=fs, pre_buffer=False, buffer_size=BUFFER_BYTES)
    stream, footer = _distant(source, file)
    return pq.ParquetFile(
        stream, metadata=footer, pre_buffer=False, buffer_size=DISTANT_BUFFER_BYTES
    )


@lru_cache(maxsize=FILES_OPEN)
def _distant(source: str, file: str) -> tuple[NativeFile, pq.FileMetaData]:
    """A file of an artifact on an object store, and its footer, by two requests once in a process;
    may be read by several threads at a time. An artifact's files do not change."""
    fs, folder = filesystem(source)
    stream = fs.open_input_file(f"{folder}/{file}")
    return stream, pq.read_metadata(stream)
