"""Features on disk: tokens written once, then memory-mapped by every process of a node."""

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyarrow.fs import LocalFileSystem

from cluster.artifacts import WORK, Draft, open_artifact
from cluster.cache import new_array, node_cache
from cluster.errors import ConfigError
from cluster.files import BYTES_AT_ONCE, PARTIAL
from models.task import Features

SPLITS = ("train", "val", "test", "imagined")
INDEX_COLUMNS = ("id", "label", "class_name", "split", "caption")
TOKENS = "tokens"
"""Name of the table that encoders write: id, tokens, reason."""
ROWS_AT_ONCE = 64


class FeatureStore:
    """A features artifact, open for reading; each split lies in a file of its own.

    `{split}.npy`: (V, N, 1 + P, D) float16, view 0 clean. `index/`: id, label, class_name, split,
    row (place in that file) and caption of every image. No split is opened before it is asked for.
    """

    def __init__(self, uri: str) -> None:
        self.artifact = open_artifact(uri, "features")
        self._folder = self.artifact.local_dir()
        self._opened: dict[str, Features] = {}
        self._known: dict[str, dict[str, int]] = {}

    @cached_property
    def index(self) -> dict[str, pa.Table]:
        """The rows of each split in the order of its file."""
        table = self.artifact.open_table("index")
        with self.artifact.damage_told("index"):
            rows = table.to_table()
        split = np.array(rows["split"].to_pylist(), dtype=str)
        return {name: rows.filter(split == name).sort_by("row") for name in SPLITS}

    def features(self, split: str) -> Features:
        """All images of a split, memory-mapped; the same object whenever it is asked for."""
        if split not in self._opened:
            self._opened[split] = self._open(split)
        return self._opened[split]

    def _open(self, split: str) -> Features:
        rows = self.index[split]
        # "c", copy on write: pages stay shared by all processes, and torch gets a writable array
        tokens = np.load(self._folder / f"{split}.npy", mmap_mode="c")
        labels = torch.tensor(rows["label"].to_pylist(), dtype=torch.int64)
        return Features(torch.from_numpy(tokens), labels, tuple(rows["caption"].to_pylist()))

    def rows(self, split: str, ids: Sequence[str]) -> Features:
        """The features of these images, in this order, copied; rejected images are left out."""
        places = self._places(split)
        return select_rows(self.features(split), [places[row] for row in self.readable(split, ids)])

    def readable(self, split: str, ids: Sequence[str]) -> list[str]:
        """The ids of these images that were not rejected, in this order.

        Raises ConfigError for one that was never encoded.
        """
        places = self._places(split)
        if unknown := [row for row in ids if row not in places and row not in self._rejected_ids]:
            raise ConfigError(
                f"features: {self.artifact.uri!r} lack {len(unknown)} of {len(ids)} {split} images "
                "that are asked for; allowed: features made with select.draws that have the same "
                "shots, seeds, rule and concepts, or without"
            )
        return [row for row in ids if row in places]

    def require_all(self) -> None:
        """Raises ConfigError if training images were left out."""
        if self.artifact.manifest.extra.get("drawn"):
            raise ConfigError(
                f"features: {self.artifact.uri!r} have only the training images of some draws of "
                "shots; allowed: features made without select.draws"
            )

    def _places(self, split: str) -> dict[str, int]:
        """Id to row of all images of a split; the same object whenever it is asked for."""
        if split not in self._known:
            self._known[split] = {row: i for i, row in enumerate(self.ids(split))}
        return self._known[split]

    @cached_property
    def _rejected_ids(self) -> set[str]:
        return set(self.artifact.read_table("rejected", ["id"])["id"].to_pylist())

    def ids(self, split: str) -> list[str]:
        """Ids of all images of a split, in the order of `features`."""
        return self.index[split]["id"].to_pylist()

    @property
    def rejected(self) -> int:
        """Images that could not be decoded."""
        return self.artifact.manifest.rows["rejected"]


def select_rows(features: Features, rows: Sequence[int]) -> Features:
    """The features of these rows, in this order, copied."""
    places = torch.tensor(rows, dtype=torch.int64)
    captions = features.captions and tuple(features.captions[row] for row in rows)
    return Features(features.tokens[:, places], features.labels[places], captions or None)


def write_features(
    draft: Draft, encoded: Draft, plan: pa.Table, views: dict[str, int], shape: tuple[int, int]
) -> dict[str, int]:
    """Puts the encoder's rows in order: one array per split, the index, and the rejected rows.

    encoded: the folder with the Parquet folder TOKENS (id, tokens, reason), other datasets' rows
    among them. plan: what was to be encoded (INDEX_COLUMNS). views: per split. shape: tokens per
    view, channels. Every token is read once and written once. Returns the rows per table.
    """
    reasons = encoded.read_table(TOKENS, ["id", "reason"])
    reason = dict(zip(reasons["id"].to_pylist(), reasons["reason"].to_pylist(), strict=True))
    planned = plan.select(INDEX_COLUMNS).to_pylist()
    rejected = [row | {"reason": reason[row["id"]]} for row in planned if reason[row["id"]]]
    index = []
    for split in SPLITS:
        rows = [row for row in planned if row["split"] == split and not reason[row["id"]]]
        index += [row | {"row": place} for place, row in enumerate(rows)]
    counts = {split: sum(row["split"] == split for row in index) for split in SPLITS}
    with _arrays(draft, {s: (views[s], counts[s], *shape) for s in SPLITS}) as arrays:
        _fill(arrays, {row["id"]: (row["split"], row["row"]) for row in index}, encoded)
    schema = plan.select(INDEX_COLUMNS).schema
    draft.write_table(
        "index", pa.Table.from_pylist(index, schema.append(pa.field("row", pa.int32())))
    )
    rejected_schema = schema.append(pa.field("reason", pa.string()))
    draft.write_table("rejected", pa.Table.from_pylist(rejected, rejected_schema))
    return counts | {"index": len(index), "rejected": len(rejected)}


class _ArrayFile:
    """A file `.npy` (V, N, T, D) float16 that is filled row by row, in any order.

    Not by a memory map, whose pages would count as this process's memory until they are written.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        """Raises OSError if there is no room on the disk."""
        self.views, self.rows, *image = shape
        self.bytes_of_row = math.prod(image) * np.float16().nbytes
        new_array(path, shape, np.float16)
        self.start = path.stat().st_size - self.views * self.rows * self.bytes_of_row
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def put(self, row: int, tokens: memoryview) -> None:
        """Writes all views of a row, one after the other in `tokens`."""
        for view in range(self.views):
            part = tokens[view * self.bytes_of_row : (view + 1) * self.bytes_of_row]
            place = self.start + (view * self.rows + row) * self.bytes_of_row
            os.pwrite(self._file, part, place)

    def close(self) -> None:
        os.close(self._file)


@contextmanager
def _arrays(
    draft: Draft, shapes: dict[str, tuple[int, int, int, int]]
) -> Iterator[dict[str, _ArrayFile]]:
    """Arrays to fill, which then are the draft's files `{name}.npy`.

    They are filled on a disk of this node, for an object store takes a file only front to back.
    """
    fs, folder = draft.filesystem()
    local = isinstance(fs, LocalFileSystem)
    base = Path(folder, WORK) if local else node_cache()
    if local:
        for left in base.glob(f"*{PARTIAL}"):  # by a run that was killed
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(suffix=PARTIAL, dir=base) as aside:
        paths = {name: Path(aside, f"{name}.npy") for name in shapes}
        with contextlib.ExitStack() as open_files:
            arrays = {name: _ArrayFile(paths[name], shape) for name, shape in shapes.items()}
            for array in arrays.values():
                open_files.callback(array.close)
            yield arrays
        for path in paths.values():
            if local:
                path.rename(Path(folder, path.name))
                continue
            with draft.open_file(path.name) as stream, path.open("rb") as file:
                shutil.copyfileobj(file, stream, BYTES_AT_ONCE)


def _fill(
    arrays: dict[str, _ArrayFile], places: dict[str, tuple[str, int]], encoded: Draft
) -> None:
    """Copies the tokens of every id to its place, a row of an array; files without any of these ids
    are not read."""
    for fragment in encoded.open_table(TOKENS).get_fragments():
        ids = fragment.to_table(columns=["id"])["id"].to_pylist()
        if places.keys().isdisjoint(ids):
            continue
        batches = fragment.to_batches(
            columns=["id", "tokens"], batch_size=ROWS_AT_ONCE, batch_readahead=1
        )
        for batch in batches:
            for row, tokens in zip(batch["id"].to_pylist(), batch["tokens"], strict=True):
                if place := places.get(row):
                    split, number = place
                    arrays[split].put(number, memoryview(tokens.as_buffer()))
