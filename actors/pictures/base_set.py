"""The base set as a worker trains on it: decoded once per node, shared by memory map."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from actors.pictures.codec import DECODING, BadImageError, decode_rgb, resized_square
from cluster.artifacts import Artifact, open_artifact
from cluster.cache import cached, new_array
from cluster.errors import ConfigError
from cluster.rows import digest, row_rng

CAPTION_COLUMNS = ("dataset", "class_name", "index", "view")
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class BaseSet:
    """Captions with at least two usable images.

    pixels: (images, 3, S, S) uint8, memory-mapped. captions: identity of each caption, sorted.
    views: for each caption, the rows of `pixels` that show it.
    """

    pixels: np.ndarray
    captions: list[str]
    views: list[list[int]]

    def __len__(self) -> int:
        return len(self.captions)

    def draw(
        self, rows: Sequence[int] | np.ndarray, stream: str, numbers: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Two different images of each caption in `rows`, and uniform numbers for views of them.

        stream: names the occasion (seed and epoch); numbers: V views, n numbers of each. What is
        drawn depends on the caption and the stream alone. Returns (2, B, 3, S, S) uint8 and
        (V, B, n) float32 in [0, 1).
        """
        views, per_view = numbers
        images = np.empty((2, len(rows)), dtype=np.int64)
        uniform = np.empty((views, len(rows), per_view), dtype=np.float32)
        for place, row in enumerate(rows):
            rng = row_rng(self.captions[row], stream)
            images[:, place] = rng.choice(self.views[row], size=2, replace=False)
            uniform[:, place] = rng.random(numbers, dtype=np.float32)
        return self.pixels[images], uniform


@dataclass(frozen=True)
class BaseSetRows:
    """A base set's rows as its readers want them, without refused ones.

    Those are the ones refused when they were made, and the ones that a curation refuses.
    """

    artifact: Artifact
    """The base set, of kind "images"."""
    curation: Artifact | None = None

    @property
    def inputs(self) -> dict[str, Artifact]:
        """What an artifact that is made of these rows is made from, by role."""
        return {"base_set": self.artifact} | ({"curation": self.curation} if self.curation else {})

    @cached_property
    def usable(self) -> pc.Expression:
        """Holds for the rows of the table `rows` that are not refused."""
        fine = pc.field("reason") == ""
        if self.curation is None:
            return fine
        refused = self.curation.open_table("decisions").to_table(
            columns=["id"], filter=~pc.field("kept")
        )
        return fine & ~pc.field("id").isin(refused["id"].combine_chunks())

    def good(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Usable rows, none twice, with `id`, `image` and these columns.

        Some hundred are in memory at once.
        """
        seen: set[str] = set()
        batches = self.artifact.open_table("rows").to_batches(
            columns=["id", *columns, "image"], filter=self.usable, batch_size=ROWS_AT_ONCE
        )
        with self.artifact.damage_told("rows"):
            for batch in batches:
                for row in batch.to_pylist():
                    if row["id"] not in seen:
                        seen.add(row["id"])
                        yield row

    def count_images(self) -> int:
        """Usable rows, as the manifests say."""
        if self.curation:
            return self.curation.manifest.rows["kept"]
        return self.artifact.manifest.rows["rows"] - self.artifact.manifest.rows["refused"]

    def count_captions(self) -> int:
        """Captions with at least two usable rows; reads no image."""
        table = self.artifact.open_table("rows")
        with self.artifact.damage_told("rows"):
            rows = table.to_table(columns=list(CAPTION_COLUMNS), filter=self.usable).to_pylist()
        good = {tuple(row[name] for name in CAPTION_COLUMNS) for row in rows}
        return sum(images > 1 for images in Counter(key[:-1] for key in good).values())

    @property
    def cache_name(self) -> str:
        """Of the decoded pictures in the cache of a node."""
        identities = (
            (artifact.uri, artifact.manifest.content_hash, artifact.manifest.created)
            for artifact in self.inputs.values()
        )
        return f"decoded-{digest(DECODING, *chain(*identities)).hex()}"


def open_base_set_rows(uri: str, curation: str | None = None) -> BaseSetRows:
    """Opens an artifact of kind "images" and, if there is one, its curation.

    Raises ConfigError if one of them is not complete, or the curation is another base set's.
    """
    base_set = open_artifact(uri, "images")
    if curation is None:
        return BaseSetRows(base_set)
    curated = open_artifact(curation, "curation")
    if curated.manifest.inputs["base_set"] != base_set.manifest.content_hash:
        raise ConfigError(
            f"curation: {curation!r} is of another base set; allowed: a curation of {uri!r}"
        )
    return BaseSetRows(base_set, curated)


def decode(rows: BaseSetRows) -> Path:
    """Decodes the usable rows into this node's cache; returns the folder.

    Images that cannot be decoded are left out; so are captions with fewer than two images left.
    All images get the size of the first. A folder that is there and whole is kept.
    """
    return cached(rows.cache_name, lambda folder: _fill(rows, folder))


def open_base_set(folder: Path) -> BaseSet:
    """Opens what `decode` made."""
    index = json.loads((folder / "captions.json").read_text())
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return BaseSet(pixels, list(index), list(index.values()))


def _fill(rows: BaseSetRows, folder: Path) -> None:
    """One pass over the rows; the array is made for all of them and grows no further."""
    pixels: np.memmap | None = None
    places: dict[str, dict[int, int]] = {}
    used = 0
    for row in rows.good(CAPTION_COLUMNS):
        try:
            decoded = decode_rgb(row["image"])
        except BadImageError:
            continue
        size = min(decoded.size) if pixels is None else pixels.shape[-1]
        image = resized_square(decoded, size).transpose(2, 0, 1)
        if pixels is None:
            shape = (rows.artifact.open_table("rows").count_rows(), *image.shape)
            pixels = new_array(folder / "pixels.npy", shape)
        pixels[used] = image
        caption = digest(row["dataset"], row["class_name"], str(row["index"])).hex()
        places.setdefault(caption, {})[row["view"]] = used
        used += 1
    if pixels is None:
        raise ValueError(f"base set {rows.artifact.uri} has no image that can be decoded")
    pixels.flush()
    pairs = {
        caption: [views[view] for view in sorted(views)]
        for caption, views in sorted(places.items())
        if len(views) > 1
    }
    (folder / "captions.json").write_text(json.dumps(pairs))
