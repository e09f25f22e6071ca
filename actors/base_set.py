"""The base set as a worker trains on it: decoded once per node, shared by memory map."""

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.images import BadImageError, decode_rgb, resized_square
from cluster.artifacts import Artifact, open_table
from cluster.rows import digest, row_rng
from cluster.storage import node_cache

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
        self, rows: Sequence[int] | np.ndarray, stream: str, numbers: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Two different images of each caption in `rows`, and uniform numbers for their views.

        stream: names the occasion (seed and epoch). What is drawn depends on the caption and the
        stream alone. Returns (2, B, 3, S, S) uint8 and (2, B, numbers) float32 in [0, 1).
        """
        images = np.empty((2, len(rows)), dtype=np.int64)
        uniform = np.empty((2, len(rows), numbers), dtype=np.float32)
        for place, row in enumerate(rows):
            rng = row_rng(self.captions[row], stream)
            images[:, place] = rng.choice(self.views[row], size=2, replace=False)
            uniform[:, place] = rng.random((2, numbers), dtype=np.float32)
        return self.pixels[images], uniform


def decode(artifact: Artifact) -> Path:
    """Decodes a base set (kind "images") into this node's cache; returns the folder.

    Rows with a reason, and images that cannot be decoded, are left out; so are captions with fewer
    than two images left. All images get the size of the first. A folder that is there is kept:
    it is made aside and renamed.
    """
    folder = cache_folder(artifact)
    if folder.is_dir():
        return folder
    aside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    aside.mkdir(parents=True)
    try:
        _fill(artifact, aside)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def open_base_set(folder: Path) -> BaseSet:
    """Opens what `decode` made."""
    index = json.loads((folder / "captions.json").read_text())
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return BaseSet(pixels, list(index), list(index.values()))


def good_rows(artifact: Artifact, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a base set that were not refused, none twice, with `id`, `image` and these columns.

    Some hundred are in memory at once.
    """
    seen: set[str] = set()
    wanted = ["id", *columns, "reason", "image"]
    for batch in open_table(artifact, "rows").to_batches(columns=wanted, batch_size=ROWS_AT_ONCE):
        for row in batch.to_pylist():
            if not row["reason"] and row["id"] not in seen:
                seen.add(row["id"])
                yield row


def count_captions(artifact: Artifact) -> int:
    """Captions with at least two rows that were not refused; reads no image."""
    columns = ["id", *CAPTION_COLUMNS, "reason"]
    rows = artifact.read_table("rows", columns).to_pylist()
    good = {(r["dataset"], r["class_name"], r["index"], r["view"]) for r in rows if not r["reason"]}
    return sum(images > 1 for images in Counter(key[:3] for key in good).values())


def cache_folder(artifact: Artifact) -> Path:
    """Where this node keeps the decoded base set."""
    key = digest(artifact.uri, artifact.manifest.content_hash, artifact.manifest.created)
    return node_cache() / f"decoded-{key.hex()}"


def _fill(artifact: Artifact, folder: Path) -> None:
    """One pass over the rows; the array is made for all of them and grows no further."""
    pixels: np.memmap | None = None
    places: dict[str, dict[int, int]] = {}
    used = 0
    for row in good_rows(artifact, CAPTION_COLUMNS):
        try:
            decoded = decode_rgb(row["image"])
        except BadImageError:
            continue
        size = min(decoded.size) if pixels is None else pixels.shape[-1]
        image = resized_square(decoded, size).transpose(2, 0, 1)
        if pixels is None:
            shape = (open_table(artifact, "rows").count_rows(), *image.shape)
            pixels = np.lib.format.open_memmap(
                folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape
            )
        pixels[used] = image
        caption = digest(row["dataset"], row["class_name"], str(row["index"])).hex()
        places.setdefault(caption, {})[row["view"]] = used
        used += 1
    if pixels is None:
        raise ValueError(f"base set {artifact.uri} has no image that can be decoded")
    pixels.flush()
    pairs = {
        caption: [views[view] for view in sorted(views)]
        for caption, views in sorted(places.items())
        if len(views) > 1
    }
    (folder / "captions.json").write_text(json.dumps(pairs))
