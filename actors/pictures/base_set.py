"""The base set as a worker trains on it: two pictures of a caption, decoded a few batches ahead."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pyarrow.compute as pc

from actors.pictures.caption_index import CaptionIndex, caption_index
from actors.pictures.codec import DECODING
from actors.pictures.encoded_pictures import EncodedPictures, Tell, first_size, tell_on_stderr
from actors.pictures.kept_pictures import KeptPictures
from cluster.artifacts import Artifact, open_artifact
from cluster.errors import ConfigError
from cluster.rows import digest, row_rng

ROWS_AT_ONCE = 256
CAPTIONS_TRIED = 100
"""One after the other, before it is given up to find one with two pictures that can be decoded."""

Decode = Callable[[Sequence[int]], list[np.ndarray | None]]
"""Numbers of pictures to pictures, (3, S, S) uint8; None for one that cannot be decoded."""
Drawn = tuple[list[np.ndarray], np.ndarray]
"""Of one caption: two pictures, (3, S, S) uint8 each, and numbers, (V, n) float32 in [0, 1)."""


class BaseSet:
    """Captions with at least two pictures, of which two are drawn at a time.

    Pictures are numbered by caption, then by view. What is drawn of a caption depends on it and on
    the name of the occasion alone, whichever thread or worker draws. Where one of the two cannot be
    decoded, two are drawn again among those of the caption that can be; where fewer than two can
    be, the next caption's stand in its place. (Until the pictures were read as they are needed,
    such pictures and captions were left out beforehand, so that epochs had fewer captions. Base
    sets of our jobs have none, for what they write was decoded or painted by them.)
    """

    def __init__(
        self, captions: np.ndarray, starts: np.ndarray, size: int, decode: Decode, threads: int = 1
    ) -> None:
        """captions: (C,) ASCII, identity of each, ascending. starts: (C + 1,), pictures starts[c]
        to starts[c + 1] show caption c. size: S. threads: in which pictures are decoded; Pillow,
        zlib and pyarrow let others compute meanwhile."""
        self.captions, self.starts, self.size, self.decode = captions, starts, size, decode
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
        self._coming: dict[tuple[int, str, tuple[int, int]], Future[Drawn]] = {}

    def __len__(self) -> int:
        return len(self.captions)

    def ask(
        self, rows: Sequence[int] | np.ndarray, stream: str, numbers: tuple[int, int]
    ) -> list[Future[Drawn]]:
        """Has that drawn in other threads which `draw` will be asked for; returns at once."""
        keys = [(int(row), stream, numbers) for row in rows]
        for key in keys:
            if key not in self._coming:
                self._coming[key] = self._threads.submit(self._drawn, *key)
        return [self._coming[key] for key in keys]

    def draw(
        self, rows: Sequence[int] | np.ndarray, stream: str, numbers: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Two different images of each caption in `rows`, and uniform numbers for views of them.

        stream: names the occasion (seed and epoch); numbers: V views, n numbers of each. Returns
        (2, B, 3, S, S) uint8 and (V, B, n) float32 in [0, 1). Raises ConfigError if the base set
        cannot be read or too many captions have no two images that can be decoded.
        """
        views, per_view = numbers
        images = np.empty((2, len(rows), 3, self.size, self.size), dtype=np.uint8)
        uniform = np.empty((views, len(rows), per_view), dtype=np.float32)
        coming = deque(self.ask(rows, stream, numbers))
        for row in rows:
            self._coming.pop((int(row), stream, numbers), None)
        for place in range(len(rows)):  # each is let go of when it has been copied
            (images[0, place], images[1, place]), uniform[:, place] = coming.popleft().result()
        return images, uniform

    def _drawn(self, row: int, stream: str, numbers: tuple[int, int]) -> Drawn:
        rng = row_rng(self.captions[row].decode(), stream)
        pair = self._pair(row, rng)
        uniform = rng.random(numbers, dtype=np.float32)
        for later in range(row, row + CAPTIONS_TRIED):
            if pair := pair or self._readable_pair(later % len(self), stream):
                return pair, uniform
        raise ConfigError(
            f"base_set: {CAPTIONS_TRIED} captions in a row have no two images that can be decoded; "
            "allowed: a base set of pictures"
        )

    def _pair(self, row: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Two pictures of the caption; nothing if one of them cannot be decoded."""
        start, end = self.starts[row], self.starts[row + 1]
        pair = self.decode((start + rng.choice(end - start, size=2, replace=False)).tolist())
        readable = [picture for picture in pair if picture is not None]
        return readable if len(readable) == 2 else []

    def _readable_pair(self, row: int, stream: str) -> list[np.ndarray]:
        """Two pictures of those of the caption that can be decoded; nothing if there are not two.

        They are drawn apart from all other numbers of the occasion.
        """
        pictures = self.decode(range(self.starts[row], self.starts[row + 1]))
        readable = [picture for picture in pictures if picture is not None]
        if len(readable) < 2:
            return []
        rng = row_rng(self.captions[row].decode(), f"{stream}/readable")
        return [readable[n] for n in rng.choice(len(readable), size=2, replace=False)]


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
        return len(self.index)

    @cached_property
    def index(self) -> CaptionIndex:
        """Of the captions with at least two usable rows, in this node's cache; reads no image."""
        columns = ["reason", "id"] if self.curation else ["reason"]
        return caption_index(self.artifact, self.usable, columns, self.identity)

    @property
    def identity(self) -> str:
        """Another one for other rows, other files, or another curation."""
        identities = (
            (artifact.uri, artifact.manifest.content_hash, artifact.manifest.created)
            for artifact in self.inputs.values()
        )
        return digest(*chain(*identities)).hex()


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


def open_base_set(
    rows: BaseSetRows,
    *,
    threads: int = 1,
    kept_bytes: int = 0,
    tell: Tell = tell_on_stderr,
    held_out: int = 0,
) -> BaseSet:
    """The base set, ready to be drawn from, without its first captions; one image is read.

    All images get the size of the first that can be decoded. kept_bytes: of decoded pictures on
    this node's disk, at most; tell: told of every image that is drawn and cannot be decoded;
    held_out: captions that are not drawn: the first of the index, which is in order of digests, so
    that they are any. Raises ConfigError if the base set cannot be read or has no image that can be
    decoded.
    """
    index = rows.index
    size = first_size(rows.artifact, index)
    kept = KeptPictures(digest(DECODING, rows.identity).hex(), size, kept_bytes)
    decode = EncodedPictures(rows.artifact, index, size, kept, tell)
    return BaseSet(index.captions[held_out:], index.starts[held_out:], size, decode, threads)
