"""ShardPlan into shards: what workers make of the images of one, and the index of all."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.features.encoder import Encoder, EncoderConfig
from actors.features.plan import INDEX_COLUMNS, SPLITS
from actors.features.shards import ShardSizes, image_bytes, shard_file
from actors.pictures.places import PLACE
from cluster.artifacts import Draft
from cluster.files import FileFacts
from cluster.pieces import Pieces

ROWS_AT_ONCE = 256
"""Images that are decoded at a time."""
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
    images: Mapping[str, np.ndarray]
    """`id` and PLACE of each, in order."""

    @property
    def key(self) -> str:
        return _key(self.target, self.split, self.number)

    def __len__(self) -> int:
        return len(self.images["id"])


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
        for start in range(0, len(shard), ROWS_AT_ONCE):
            part = {n: column[start : start + ROWS_AT_ONCE] for n, column in shard.images.items()}
            rows = self.encode(part | {"views": np.full(len(part["id"]), shard.views)})
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
    """As `encoding_plan` gives it."""
    views: Mapping[str, int]
    """Of each split."""
    image: tuple[int, int]
    """Tokens of a view, channels."""

    def rows(self, split: str) -> pa.Table:
        """The plan of a split, in the order of its shards: that of the pictures' files."""
        rows = self.plan.filter(pc.equal(self.plan["split"], split))
        return rows.sort_by([(name, "ascending") for name in PLACE])

    def sizes(self, split: str) -> ShardSizes:
        count = pc.sum(pc.equal(self.plan["split"], split)).as_py() or 0
        return ShardSizes.of(count, self.views[split], self.image)

    @property
    def bytes(self) -> int:
        """Of all shards."""
        return sum(self.sizes(split).bytes for split in SPLITS)

    def shards(self) -> Iterator[Shard]:
        """All that are to be written."""
        bare = Draft(self.draft.uri, None, self.draft.manifest)
        for split in SPLITS:
            rows, sizes = self.rows(split), self.sizes(split)
            for number, images in enumerate(sizes.ranges()):
                part = rows.slice(images.start, len(images))
                columns = {name: part[name].to_numpy() for name in ("id", *PLACE)}
                yield Shard(bare, split, number, self.views[split], columns)

    def write_index(self, pieces: Pieces) -> dict[str, int]:
        """Writes the tables `index` and `rejected`, once all shards are there; returns the rows.

        index: INDEX_COLUMNS and `place`, an image's number in its split, in order of split and id.
        rejected: INDEX_COLUMNS and `reason`. pieces: of the shards, by their keys.
        """
        keys = {split: self._keys(split) for split in SPLITS}
        for batch in pieces.batches("files", [key for split in SPLITS for key in keys[split]]):
            for file in batch.to_pylist():
                self.draft.written[file["name"]] = FileFacts(file["size"], file["sha256"])
        index, rejected, counts = [], [], {}
        for split in SPLITS:
            rows = self.rows(split).select(INDEX_COLUMNS)
            reasons = _reasons(pieces, keys[split], rows["id"])
            places = pa.array(np.arange(len(rows)), pa.int64())
            good = pc.equal(reasons, "")
            index.append(rows.append_column("place", places).filter(good).sort_by("id"))
            rejected.append(rows.append_column("reason", reasons).filter(pc.invert(good)))
            counts[split] = len(index[-1])
        tables = {"index": pa.concat_tables(index), "rejected": pa.concat_tables(rejected)}
        for name, table in tables.items():
            self.draft.write_table(name, table)
        return counts | {name: len(table) for name, table in tables.items()}

    def _keys(self, split: str) -> Sequence[str]:
        return [
            _key(self.draft, split, number) for number, _ in enumerate(self.sizes(split).ranges())
        ]

    def extra(self) -> dict[str, object]:
        """What the manifest says of the shards."""
        return {"shards": {split: self.sizes(split).plain() for split in SPLITS}}


def _reasons(pieces: Pieces, keys: Sequence[str], ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Raises RuntimeError if the pieces are not of these images."""
    rows = pa.Table.from_batches(pieces.batches("rows", keys), SCHEMAS["rows"])
    if not rows["id"].equals(ids):
        raise RuntimeError("the shards hold other images than the plan")
    return rows["reason"]
