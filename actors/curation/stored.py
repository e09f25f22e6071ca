"""Embeddings that lie on a storage: more than a process holds, read where they are asked for."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cluster.artifacts import WORK
from cluster.files import READERS
from cluster.folder import Folder
from cluster.storage import write

FOLDER = f"{WORK}/embeddings"
GAP = 16
"""Rows between two that are asked for that are read with them: one request costs more."""


class StoredEmbeddings:
    """(N, D) float16, in one file for each part of the rows."""

    def __init__(
        self,
        folder: Folder,
        sizes: Mapping[str, int],
        dimensions: int,
        places: np.ndarray | None = None,
    ) -> None:
        """sizes: rows of each part, by its key, in their order. places: (N,) of the rows among all
        of these; None: they are all, in their order."""
        self.folder, self.sizes, self.dimensions, self.places = folder, sizes, dimensions, places
        self._keys = list(sizes)
        self._ends = np.cumsum(list(sizes.values()), dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        rows = int(self._ends[-1]) if self.places is None else len(self.places)
        return rows, self.dimensions

    def taken(self, rows: np.ndarray) -> "StoredEmbeddings":
        """These rows, (M,), in their order, still on the storage."""
        return self.at(rows if self.places is None else self.places[rows])

    def at(self, places: np.ndarray) -> "StoredEmbeddings":
        """Those at these places, (M,), of all that are stored."""
        return StoredEmbeddings(self.folder, self.sizes, self.dimensions, places)

    def of_part(self, key: str) -> np.ndarray:
        """(N, D) float16: all of a part."""
        end = int(self._ends[self._keys.index(key)])
        return self._of_part(self._keys.index(key), np.arange(end - self.sizes[key], end))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(M, D) float16: reads these rows, (M,)."""
        places = rows if self.places is None else self.places[rows]
        distinct, which = np.unique(places, return_inverse=True)
        part = np.searchsorted(self._ends, distinct, side="right")
        with ThreadPoolExecutor(READERS) as pool:
            read = pool.map(lambda n: self._of_part(n, distinct[part == n]), np.unique(part))
            values = [np.empty((0, self.dimensions), np.float16), *read]
        return np.concatenate(values)[which]

    def _of_part(self, number: int, places: np.ndarray) -> np.ndarray:
        key = self._keys[number]
        start, row_bytes = int(self._ends[number]) - self.sizes[key], 2 * self.dimensions
        fs, folder = self.folder.filesystem()
        values = np.empty((len(places), self.dimensions), dtype=np.float16)
        with fs.open_input_file(f"{folder}/{FOLDER}/{key}") as file:
            for run in _runs(places):
                first, last = int(places[run][0]), int(places[run][-1])
                data = file.read_at((last - first + 1) * row_bytes, (first - start) * row_bytes)
                rows = np.frombuffer(data, np.float16).reshape(-1, self.dimensions)
                values[run] = rows[places[run] - first]
        return values


def _runs(places: np.ndarray) -> Iterator[slice]:
    """Slices of (P,), in ascending order, in which no two lie further apart than GAP."""
    cuts = np.flatnonzero(np.diff(places) > GAP) + 1
    for start, end in zip([0, *cuts], [*cuts, len(places)], strict=True):
        yield slice(start, end)


def store_part(folder: Folder, key: str, embeddings: np.ndarray) -> None:
    """Writes the file of a part, (N, D) float16."""
    fs, path = folder.filesystem()
    fs.create_dir(f"{path}/{FOLDER}", recursive=True)
    write(fs, f"{path}/{FOLDER}/{key}", embeddings.tobytes())
