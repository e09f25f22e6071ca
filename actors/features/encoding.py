"""ShardPlan into shards: what workers make of the images of one, and the index of all."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.features.encoder import Encoder, EncoderConfig
from actors.features.plan import INDEX_COLUMNS, SPLITS
from actors.features.shards import ShardSizes, image_bytes, shard_file
from actors.pictures.places import PLACE, images_in_order, in_one_piece, texts_of_ids
from cluster.artifacts import Draft
from cluster.files import FileFacts
from cluster.pieces import Pieces

ROWS_AT_ONCE = 256
"""Images that are decoded at a time."""
ROW = np.uint32
"""Type of numbers of a plan's rows, which there are two arrays of for as many images."""
NOWHERE = np.iinfo(ROW).max
"""Place of an image that has none."""
ROWS_OF_INDEX = 2**20
"""Of a row group of the index."""
INDEX = pa.schema(
    [(name, pa.int32() if name == "label" else pa.string()) for name in INDEX_COLUMNS]
    + [("place", pa.int64())]
)
SCHEMAS = {
    "rows": pa.schema([("id", pa.string()), ("reason", pa.string())]),
    "files": pa.schema([("name", pa.string()), ("size", pa.int64()), ("sha256", pa.string())]),
}
"""Tables of a piece of the work: every image in order, `reason` empty if it was encoded, and the
files that hold them."""


@dataclass(frozen=True)
class Shard:
    """A shard of a split that is to be encoded."""

    target: Draft
    """The features, without the driver's lock."""
    split: str
    number: int
    views: int
    plan: pa.Table
    """Has `id` and PLACE of the shard's images among others."""
    rows: np.ndarray
    """Of the plan, those of the shard in its order."""

    @property
    def key(self) -> str:
        return _key(self.target, self.split, self.number)

    @property
    def images(self) -> dict[str, np.ndarray]:
        """`id` and PLACE of each, in order."""
        rows = texts_of_ids(self.plan.select(["id", *PLACE]).take(self.rows))
        return {name: rows[name].to_numpy() for name in rows.column_names}

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker: of the plan its own rows."""
        own = {"plan": pa.table(self.images), "rows": np.arange(len(self), dtype=ROW)}
        return self.__dict__ | own


def _key(target: Draft, split: str, number: int) -> str:
    return f"{target.content_hash[:12]}-{split}-{number:06d}"


class ShardEncoder:
    """Writes shards; the CLIP is loaded once. config, device: see `Encoder`."""

    def __init__(self, config: EncoderConfig, device: str = "cpu") -> None:
        self.encode = Encoder(config, device)

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """The shard's tables of SCHEMAS; its files lie in the features before."""
        return write_shard(shard, self.encode.image, self._encoded(shard))

    def _encoded(self, shard: Shard) -> Iterator[tuple[str, bytes]]:
        images = shard.images
        coming = images_in_order(images)
        for start in range(0, len(shard), ROWS_AT_ONCE):
            part = {n: column[start : start + ROWS_AT_ONCE] for n, column in images.items()}
            count = len(part["id"])
            views = {"views": np.full(count, shard.views)}
            rows = self.encode.encoded(part | views, islice(coming, count))
            yield from zip(rows["reason"].tolist(), rows["tokens"], strict=True)


def write_shard(
    shard: Shard, image: tuple[int, int], encoded: Iterable[tuple[str, bytes]]
) -> dict[str, pa.Table]:
    """Writes a shard's files; returns its tables of SCHEMAS.

    image: tokens of a view, channels. encoded: of each image in order its `reason`, and its tokens
    as `Encoder` gives them.
    """
    names = [shard_file(shard.split, view, shard.number) for view in range(shard.views)]
    size = image_bytes(image)
    reasons: list[str] = []
    with contextlib.ExitStack() as files:
        streams = [files.enter_context(shard.target.open_file(name)) for name in names]
        for reason, tokens in encoded:
            reasons.append(reason)
            views = memoryview(tokens or bytes(shard.views * size))
            for view, stream in enumerate(streams):
                stream.write(views[view * size : (view + 1) * size])
    facts = [shard.target.written[name] for name in names]
    return {
        "rows": pa.table({"id": shard.images["id"], "reason": reasons}, SCHEMAS["rows"]),
        "files": pa.table(
            [names, [f.size for f in facts], [f.sha256 for f in facts]], SCHEMAS["files"]
        ),
    }


@dataclass(frozen=True)
class ShardPlan:
    """The shards of one dataset's features, from its plan."""

    draft: Draft
    plan: pa.Table
    """As `encoding_plan` gives it: each split in order of id."""
    views: Mapping[str, int]
    """Of each split."""
    image: tuple[int, int]
    """Tokens of a view, channels."""

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        """Of each split its rows of the plan, in the order of its shards: that of the pictures'
        files."""
        keys: dict[str, pa.Array | np.ndarray] = {name: _ranks(self.plan[name]) for name in PLACE}
        by = [(name, "ascending") for name in PLACE]
        order = pc.sort_indices(pa.table(keys), by).to_numpy().astype(ROW)
        names, codes = _coded(self.plan["split"])
        of_split = codes[order]
        return {split: order[of_split == _place(names, split)] for split in SPLITS}

    def sizes(self, split: str) -> ShardSizes:
        names, codes = _coded(self.plan["split"])
        count = int(np.count_nonzero(codes == _place(names, split)))
        return ShardSizes.of(count, self.views[split], self.image)

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(self.sizes(split).bytes for split in SPLITS)

    def shards(self) -> Iterator[Shard]:
        """All that are to be written."""
        bare = Draft(self.draft.uri, None, self.draft.manifest)
        for split in SPLITS:
            rows = self._rows[split]
            for number, images in enumerate(self.sizes(split).ranges()):
                part = rows[images.start : images.stop]
                yield Shard(bare, split, number, self.views[split], self.plan, part)

    def write_index(self, pieces: Pieces) -> dict[str, int]:
        """Writes the tables `index` and `rejected`, once all shards are there; returns the rows.

        index: INDEX_COLUMNS and `place`, an image's number in its split, in order of split and id.
        rejected: INDEX_COLUMNS and `reason`. pieces: of the shards, by their keys.
        """
        keys = {split: self._keys(split) for split in SPLITS}
        for batch in pieces.batches("files", [key for split in SPLITS for key in keys[split]]):
            for file in batch.to_pylist():
                self.draft.written[file["name"]] = FileFacts(file["size"], file["sha256"])
        index, places, rejected, counts = [], [], [], {}
        for split in SPLITS:
            rows = self._rows[split]
            reasons = _reasons(pieces, keys[split], self.plan, rows)
            bad = np.array(sorted(reasons), dtype=int)
            good, places_of_good = self._in_order_of_id(rows, bad)
            index.append(good)
            places.append(places_of_good)
            texts = pa.array([reasons[place] for place in bad.tolist()], pa.string())
            rejected.append(self._index_rows(rows[bad]).append_column("reason", texts))
            counts[split] = len(good)
        self._write_index(np.concatenate(index), np.concatenate(places))
        self.draft.write_table("rejected", pa.concat_tables(rejected))
        return counts | {"index": sum(counts.values()), "rejected": sum(map(len, rejected))}

    def _in_order_of_id(self, rows: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the plan without those at the places `bad`, in its order, and their places."""
        place_of = np.full(len(self.plan), NOWHERE, ROW)
        place_of[rows] = np.arange(len(rows), dtype=ROW)
        place_of[rows[bad]] = NOWHERE
        good = np.flatnonzero(place_of != NOWHERE).astype(ROW)
        return good, place_of[good]

    def _write_index(self, rows: np.ndarray, places: np.ndarray) -> None:
        """rows: of the plan; ROWS_OF_INDEX of them are there as texts at a time."""
        with (
            self.draft.open_file("index/part-0.parquet") as stream,
            pq.ParquetWriter(stream, INDEX) as file,
        ):
            for start in range(0, max(len(rows), 1), ROWS_OF_INDEX):
                part = slice(start, start + ROWS_OF_INDEX)
                numbers = pa.array(places[part], pa.int64())
                file.write_table(self._index_rows(rows[part]).append_column("place", numbers))

    def _index_rows(self, rows: np.ndarray) -> pa.Table:
        """INDEX_COLUMNS of these rows of the plan, as plain texts and numbers."""
        table = texts_of_ids(self.plan.select(INDEX_COLUMNS).take(rows))
        return table.cast(pa.schema([INDEX.field(name) for name in INDEX_COLUMNS]))

    def _keys(self, split: str) -> Sequence[str]:
        return [
            _key(self.draft, split, number) for number, _ in enumerate(self.sizes(split).ranges())
        ]

    def extra(self) -> dict[str, object]:
        """What the manifest says of the shards."""
        return {"shards": {split: self.sizes(split).plain() for split in SPLITS}}


def _reasons(
    pieces: Pieces, keys: Sequence[str], plan: pa.Table, rows: np.ndarray
) -> dict[int, str]:
    """By place the reasons of images that could not be encoded.

    rows: of the plan, in the order of the shards. Raises RuntimeError if the pieces are not of
    these images.
    """
    reasons: dict[int, str] = {}
    start = 0
    for batch in pieces.batches("rows", keys):
        planned = texts_of_ids(plan.select(["id"]).take(rows[start : start + len(batch)]))
        if not planned["id"].equals(pa.chunked_array([batch["id"]])):
            break
        bad = np.flatnonzero(pc.not_equal(batch["reason"], "").to_numpy(zero_copy_only=False))
        texts = batch["reason"].take(bad).to_pylist()
        reasons |= dict(zip((start + bad).tolist(), texts, strict=True))
        start += len(batch)
    if start != len(rows):
        raise RuntimeError("the shards hold other images than the plan")
    return reasons


def _coded(texts: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The distinct texts of a column, and of each row which of them it has."""
    if not pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_encode()
    column = in_one_piece(texts)
    return column.dictionary.to_pylist(), column.indices.to_numpy()


def _place(names: list[str], name: str) -> int:
    return names.index(name) if name in names else -1


def _ranks(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) integers in the order of a column of integers or texts."""
    if pa.types.is_integer(column.type):
        return column.to_numpy()
    names, codes = _coded(column)
    return np.argsort(np.argsort(np.array(names, dtype=object))).astype(np.int32)[codes]
