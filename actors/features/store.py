"""Features on disk: shards, memory-mapped by every process of a node, and an index."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from actors.features.mapping import mapped
from actors.features.plan import SPLITS
from actors.features.shards import TOKEN, ShardSizes, shard_file, shard_name
from cluster.artifacts import open_artifact
from cluster.errors import ConfigError
from models.task import Features

READERS = 16
"""Reads at a time: an object store takes its time, and so does a disk."""
GAP_BYTES, READ_BYTES = 1 << 20, 1 << 24
"""Between two images that are read together: a request takes longer than to read so much. And of
all that are, at most."""


class FeatureStore:
    """A features artifact, open for reading, one split at a time.

    Of each split: shards (`actors.features.shards`). `index/`: id, label, class_name, split, place
    (number of the image in its split's shards) and caption of every image, in order of split and
    id. No split is opened before it is asked for. `rows` reads the images that it is asked for and
    nothing else, some side by side: also on a disk that is 2 to 15 times as fast as one page after
    the other. `features` maps a whole split; of an object store's it copies it to this node's cache
    first.
    """

    def __init__(self, uri: str) -> None:
        """Raises ConfigError if there are no features there, or its manifest is damaged."""
        self.artifact = open_artifact(uri, "features")
        self._fs, self._path = self.artifact.filesystem()
        self._opened: dict[str, Features] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        try:
            shards = self.artifact.manifest.extra["shards"]
            self._sizes = {split: ShardSizes.parsed(shards[split]) for split in SPLITS}
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"features: the manifest of {uri!r} says nothing of shards; allowed: as published"
            ) from error

    @cached_property
    def index(self) -> dict[str, pa.Table]:
        """The rows of each split in order of id."""
        table = self.artifact.open_table("index")
        with self.artifact.damage_told("index"):
            rows = table.to_table()
        return {name: rows.filter(pc.equal(rows["split"], name)) for name in SPLITS}

    def features(self, split: str) -> Features:
        """All images of a split in order of id, memory-mapped; the same object whenever asked."""
        if split not in self._opened:
            sizes, rows = self._sizes[split], self.index[split]
            stored = mapped(self._files(split), (sizes.count, *sizes.image), TOKEN)
            self._opened[split] = _features(stored, rows, _numbers(rows, "place"))
        return self._opened[split]

    def _files(self, split: str) -> list[list[Path]]:
        """Of each view its shards, on this node; none of a split without images."""
        sizes = self._sizes[split]
        shards = range(len(list(sizes.ranges())))
        if not shards:
            return [[] for _ in range(sizes.views)]
        folder = self.artifact.local_dir(split)
        return [[folder / shard_name(view, s) for s in shards] for view in range(sizes.views)]

    def rows(self, split: str, ids: Sequence[str]) -> Features:
        """The features of these images, in this order, copied; rejected images are left out."""
        number = self._known(split)
        numbers = [number[row] for row in self.readable(split, ids)]
        if split in self._opened:
            return self.features(split).of_images(numbers).copied()
        rows = self.index[split].take(pa.array(numbers, pa.int64()))
        return _features(self._fetched(split, rows["place"].to_pylist()), rows, None)

    def _fetched(self, split: str, places: Sequence[int]) -> np.ndarray:
        """The tokens of these images (V, n, 1 + P, D); near ones of a view by one request."""
        sizes = self._sizes[split]
        tokens = np.empty((sizes.views, len(places), *sizes.image), TOKEN)
        of_shard: dict[int, list[int]] = defaultdict(list)
        for row in np.argsort(places, kind="stable").tolist():
            of_shard[places[row] // sizes.images].append(row)

        def fetch(file: tuple[int, int]) -> None:
            view, shard = file
            with self._fs.open_input_file(
                f"{self._path}/{shard_file(split, view, shard)}"
            ) as stream:
                for rows in _near(of_shard[shard], places, sizes):
                    first, last = places[rows[0]], places[rows[-1]]
                    count = last - first + 1
                    offset = (first % sizes.images) * sizes.image_bytes
                    data = stream.read_at(count * sizes.image_bytes, offset)
                    if len(data) < count * sizes.image_bytes:
                        raise ConfigError(
                            f"features: {self._path}/{shard_file(split, view, shard)} ends too "
                            "early; allowed: as it was published"
                        )
                    images = np.frombuffer(data, TOKEN).reshape(count, *sizes.image)
                    tokens[view, rows] = images[[places[row] - first for row in rows]]

        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(fetch, [(view, s) for view in range(sizes.views) for s in of_shard]))
        return tokens

    def readable(self, split: str, ids: Sequence[str]) -> list[str]:
        """The ids of these images that were not rejected, in this order.

        Raises ConfigError for one that was never encoded.
        """
        known = self._known(split)
        if unknown := [row for row in ids if row not in known and row not in self._rejected_ids]:
            raise ConfigError(
                f"features: {self.artifact.uri!r} lack {len(unknown)} of {len(ids)} {split} images "
                "that are asked for; allowed: features made with select.draws that have the same "
                "shots, seeds, rule and concepts, or without"
            )
        return [row for row in ids if row in known]

    def require_all(self) -> None:
        """Raises ConfigError if training images were left out."""
        if self.artifact.manifest.extra.get("drawn"):
            raise ConfigError(
                f"features: {self.artifact.uri!r} have only the training images of some draws of "
                "shots; allowed: features made without select.draws"
            )

    def places(self, split: str) -> dict[str, int]:
        """Id to place among the stored tokens of all images of a split, in order of id."""
        rows = self.index[split]
        return dict(zip(rows["id"].to_pylist(), rows["place"].to_pylist(), strict=True))

    def require_patches(self, where: str) -> None:
        """ConfigError if only class tokens were kept; where: what reads more, a field's name."""
        if self._sizes["train"].image[0] == 1:
            raise ConfigError(
                f"{where}: reads the tokens of patches, and {self.artifact.uri!r} has none; "
                "allowed: features made with encoder.patches"
            )

    def _known(self, split: str) -> dict[str, int]:
        """Id to place in the order of `features`; the same object whenever it is asked for."""
        if split not in self._numbers:
            self._numbers[split] = {row: number for number, row in enumerate(self.ids(split))}
        return self._numbers[split]

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


def _near(rows: Sequence[int], places: Sequence[int], sizes: ShardSizes) -> Iterator[list[int]]:
    """The rows, in order of their places, in parts that are read by one request each."""
    part: list[int] = []
    for row in rows:
        if part:
            gap = max(0, places[row] - places[part[-1]] - 1) * sizes.image_bytes
            size = (places[row] - places[part[0]] + 1) * sizes.image_bytes
            if gap > GAP_BYTES or size > READ_BYTES:
                yield part
                part = []
        part.append(row)
    if part:
        yield part


def _features(tokens: np.ndarray, rows: pa.Table, places: torch.Tensor | None) -> Features:
    """rows: of the index, in the order of the images."""
    captions = tuple(rows["caption"].to_pylist())
    return Features(torch.from_numpy(tokens), _numbers(rows, "label"), captions, None, places)


def _numbers(rows: pa.Table, column: str) -> torch.Tensor:
    return torch.from_numpy(rows[column].to_numpy().astype(np.int64))
