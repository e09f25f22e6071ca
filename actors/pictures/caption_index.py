"""Which pictures show each caption of a base set and where they lie: arrays, mapped from a file.

For P pictures of C captions the index takes 8 P + 40 C bytes: 1.8 GB for 100 million in four views.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from cluster.artifacts import Artifact
from cluster.cache import cached, node_cache
from cluster.locks import Lock
from cluster.rows import digest

CAPTION_COLUMNS = ("dataset", "class_name", "index", "view")
INDEXING = "captions-1"
"""Names how rows become an index, for caches of it; another one with every change of that."""
FILES_AT_ONCE, THREADS = 64, 16
"""Whose columns are in memory at once, and that are read at a time: a store takes its time."""
FIRST = 256
"""Pictures whose places are kept in the order of the files, too."""
FILES = "files.json"


@dataclass(frozen=True)
class CaptionIndex:
    """Captions with at least two pictures; pictures are numbered by caption, then by view.

    captions: (C,) ASCII, digest of each caption, ascending. starts: (C + 1,) int64, pictures
    starts[c] to starts[c + 1] show caption c. file, place: (P,) uint32 each, the number of a
    picture's file and its row there. first: (2, at most FIRST) uint32, files and places of the
    first usable pictures, of whatever caption. folder: where the arrays are mapped from.
    """

    captions: np.ndarray
    starts: np.ndarray
    file: np.ndarray
    place: np.ndarray
    first: np.ndarray
    folder: Path

    @cached_property
    def files(self) -> list[str]:
        """Paths below the artifact's folder, by number."""
        paths: list[str] = json.loads((self.folder / FILES).read_text())
        return paths

    def __len__(self) -> int:
        return len(self.captions)


def caption_index(
    artifact: Artifact, usable: pc.Expression, columns: Sequence[str], identity: str
) -> CaptionIndex:
    """The index of the usable rows of an artifact's table `rows`, from this node's cache.

    It is made by one pass over the columns that name the captions: no image is read. Other
    processes of the node wait meanwhile instead of making it, too. columns: that `usable` looks at;
    identity: names the rows and what is usable of them. Raises ConfigError if the table is damaged.
    """
    name = f"index-{digest(INDEXING, identity).hex()}"
    lock = Lock(str(node_cache() / "locks" / name), f"the index of {artifact.uri}")
    try:
        folder = cached(name, lambda folder: _write(artifact, usable, columns, folder))
    finally:
        lock.release()
    arrays = {
        array: np.load(folder / f"{array}.npy", mmap_mode="r" if array != "first" else None)
        for array in ("captions", "starts", "file", "place", "first")
    }
    return CaptionIndex(**arrays, folder=folder)


def _write(artifact: Artifact, usable: pc.Expression, needed: Sequence[str], folder: Path) -> None:
    """Of rows with one caption and one view (repeats of a row, mostly) the last one counts."""
    paths = artifact.open_table("rows").files
    parts = list(_parts(artifact, usable, needed, paths))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _NO_ROWS}
    del parts
    file, place, keys = columns["file"], columns["place"], columns["caption"]
    np.save(folder / "first.npy", np.stack([file[:FIRST], place[:FIRST]]))
    order = np.lexsort((columns["view"], keys[:, 1], keys[:, 0]))  # stable: the files' order stays
    keys, views = keys[order], columns["view"][order]
    last = np.append(_begins(keys) | (np.diff(views, prepend=0) != 0), True)[1:]
    keys, order = keys[last], order[last]
    begins = np.flatnonzero(_begins(keys))
    counts = np.diff(np.append(begins, len(keys)))
    several = counts > 1
    order = order[np.repeat(several, counts)]
    hexadecimal = keys[begins[several]].astype(">u8").tobytes().hex().encode()
    np.save(folder / "captions.npy", np.frombuffer(hexadecimal, "S32"))
    np.save(folder / "starts.npy", np.append(0, counts[several].cumsum()))
    np.save(folder / "file.npy", file[order])
    np.save(folder / "place.npy", place[order])
    _, root = artifact.filesystem()
    (folder / FILES).write_text(json.dumps([path.removeprefix(f"{root}/") for path in paths]))


_NO_ROWS: dict[str, np.ndarray] = {
    "caption": np.empty((0, 2), np.uint64),
    "view": np.empty(0, np.int64),
    "file": np.empty(0, np.uint32),
    "place": np.empty(0, np.uint32),
}
"""Columns of the usable rows on the way to an index; a caption's digest is two numbers."""


def _parts(
    artifact: Artifact, usable: pc.Expression, columns: Sequence[str], paths: list[str]
) -> Iterator[dict[str, np.ndarray]]:
    """Usable rows in the order of the files, in parts."""
    fs, _ = artifact.filesystem()

    def read(path: str) -> pa.Table:
        with pq.ParquetFile(path, filesystem=fs) as parquet:
            return parquet.read([*CAPTION_COLUMNS, *columns], use_threads=False)

    yield _NO_ROWS
    with artifact.damage_told("rows"), ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, len(paths), FILES_AT_ONCE):
            tables = list(threads.map(read, paths[start : start + FILES_AT_ONCE]))
            yield _columns(tables, start, usable)


def _columns(
    tables: list[pa.Table], first_file: int, usable: pc.Expression
) -> dict[str, np.ndarray]:
    """What `_NO_ROWS` has, of the usable rows of files that are numbered from `first_file` on."""
    lengths = [len(table) for table in tables]
    files = np.arange(first_file, first_file + len(tables), dtype=np.uint32)
    places = np.concatenate([np.arange(length, dtype=np.uint32) for length in lengths])
    rows = ds.dataset(pa.concat_tables(tables, promote_options="permissive"))
    is_usable = rows.to_table(columns={"usable": usable})["usable"].fill_null(False)
    numbers = np.flatnonzero(np.array(is_usable))
    rows = rows.to_table(columns=list(CAPTION_COLUMNS)).take(numbers)
    return {
        "caption": _digests(rows),
        "view": np.array(rows["view"], dtype=np.int64),
        "file": np.repeat(files, lengths)[numbers],
        "place": places[numbers],
    }


def _digests(rows: pa.Table) -> np.ndarray:
    """(n, 2) uint64, of each row's caption; rows of one caption mostly follow one another."""
    columns = [rows[name] for name in CAPTION_COLUMNS[:-1]]
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = np.any([pc.not_equal(column[1:], column[:-1]) for column in columns], axis=0)
    first = np.flatnonzero(begins)
    captions = zip(*(column.take(first).to_pylist() for column in columns), strict=True)
    digests = b"".join(digest(dataset, name, str(index)) for dataset, name, index in captions)
    return np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64)[begins.cumsum() - 1]


def _begins(keys: np.ndarray) -> np.ndarray:
    """(n,) bool of (n, 2) sorted digests: whether it is another one than that before."""
    begins = np.ones(len(keys), dtype=bool)
    begins[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return begins
