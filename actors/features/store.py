"""Features on disk: tokens written once, then memory-mapped by every process of a node."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch

from cluster.artifacts import Draft, open_artifact
from models.task import Features

SPLITS = ("train", "val", "test", "imagined")
INDEX_COLUMNS = ("id", "label", "class_name", "split", "caption")
TOKENS = "tokens"
"""Name of the table that encoders write: id, tokens, reason."""
ROWS_AT_ONCE = 512


class FeatureStore:
    """A features artifact, open for reading; each split lies in a file of its own.

    `{split}.npy`: (V, N, 1 + P, D) float16, view 0 clean. `index/`: id, label, class_name, split,
    row (place in that file) and caption of every image. No split is opened before it is asked for.
    """

    def __init__(self, uri: str) -> None:
        self.artifact = open_artifact(uri, "features")
        self._folder = self.artifact.local_dir()
        self._opened: dict[str, Features] = {}

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
        place = {row: i for i, row in enumerate(self.ids(split))}
        return select_rows(self.features(split), [place[row] for row in self.readable(split, ids)])

    def readable(self, split: str, ids: Sequence[str]) -> list[str]:
        """The ids of these images that were not rejected, in this order."""
        known = set(self.ids(split))
        return [row for row in ids if row in known]

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
    view, channels. Returns the rows per table.
    """
    reasons = encoded.read_table(TOKENS, ["id", "reason"])
    reason = dict(zip(reasons["id"].to_pylist(), reasons["reason"].to_pylist(), strict=True))
    planned = plan.select(INDEX_COLUMNS).to_pylist()
    rejected = [row | {"reason": reason[row["id"]]} for row in planned if reason[row["id"]]]
    index = []
    for split in SPLITS:
        rows = [row for row in planned if row["split"] == split and not reason[row["id"]]]
        index += [row | {"row": place} for place, row in enumerate(rows)]
        _write_array(draft, encoded, split, [row["id"] for row in rows], (views[split], *shape))
    schema = plan.select(INDEX_COLUMNS).schema
    draft.write_table(
        "index", pa.Table.from_pylist(index, schema.append(pa.field("row", pa.int32())))
    )
    rejected_schema = schema.append(pa.field("reason", pa.string()))
    draft.write_table("rejected", pa.Table.from_pylist(rejected, rejected_schema))
    counts = {split: sum(row["split"] == split for row in index) for split in SPLITS}
    return counts | {"index": len(index), "rejected": len(rejected)}


def _write_array(
    draft: Draft,
    encoded: Draft,
    split: str,
    ids: list[str],
    shape: tuple[int, int, int],
) -> None:
    """`{split}.npy` (V, N, T, D), written front to back, so that an object store can hold it."""
    views, *image = shape
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)),
        "fortran_order": False,
        "shape": (views, len(ids), *image),
    }
    with draft.open_file(f"{split}.npy") as stream:
        np.lib.format.write_array_header_2_0(stream, header)
        for view in range(views):
            for tokens in _in_order(encoded, ids):
                stream.write(tokens.reshape(-1, views, *image)[:, view].tobytes())


def _in_order(encoded: Draft, ids: list[str]) -> Iterator[np.ndarray]:
    """Tokens of these ids, float16, some hundred images at a time."""
    rows = encoded.open_table(TOKENS)
    known = rows.to_table(columns=["id"])["id"].to_pylist()
    place = {row: i for i, row in enumerate(known)}
    for start in range(0, len(ids), ROWS_AT_ONCE):
        places = [place[row] for row in ids[start : start + ROWS_AT_ONCE]]
        tokens = rows.take(places, columns=["tokens"])["tokens"].to_pylist()
        yield np.frombuffer(b"".join(tokens), dtype=np.float16)
