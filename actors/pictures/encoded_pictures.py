"""A base set's pictures by number: read encoded where they lie, decoded when they are asked for."""

import sys
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np

from actors.pictures.caption_index import CaptionIndex
from actors.pictures.codec import BadImageError, decode_rgb, resized_square
from actors.pictures.kept_pictures import KeptPictures
from actors.pictures.places import read_rows
from cluster.artifacts import Artifact
from cluster.errors import ConfigError

Tell = Callable[[str, str], None]
"""Is told of a picture that cannot be decoded, by its place, and the reason."""


def tell_on_stderr(place: str, reason: str) -> None:
    """What is done with the news where nobody else wants it."""
    print(f"{place} cannot be decoded: {reason}", file=sys.stderr, flush=True)


class EncodedPictures:
    """Called with numbers of an index, returns the pictures, (3, S, S) uint8 each, in that order.

    A picture that cannot be decoded is None, whoever asks for it; `tell` is told of it once. May be
    called by several threads at a time. Raises ConfigError if the artifact cannot be read.
    """

    def __init__(
        self, artifact: Artifact, index: CaptionIndex, size: int, kept: KeptPictures, tell: Tell
    ) -> None:
        self.artifact, self.index, self.size = artifact, index, size
        self.kept, self.tell = kept, tell
        self._lock, self._told = Lock(), set[int]()

    def __call__(self, numbers: Sequence[int]) -> list[np.ndarray | None]:
        pictures = {number: self.kept.read(number) for number in numbers}
        missing = [number for number, picture in pictures.items() if picture is None]
        places = np.stack([self.index.file[missing], self.index.place[missing]])
        images = _images(self.artifact, self.index, places)
        for number, image in zip(missing, images, strict=True):
            try:
                pictures[number] = picture = _picture(image, self.size)
            except BadImageError as error:
                self._tell(number, str(error))
            else:
                self.kept.write(number, picture)
        return [pictures[number] for number in numbers]

    def _tell(self, number: int, reason: str) -> None:
        with self._lock:
            news = number not in self._told
            self._told.add(number)
        if news:
            file = self.index.files[self.index.file[number]]
            self.tell(f"{self.artifact.file(file)}, row {self.index.place[number]}", reason)


def first_size(artifact: Artifact, index: CaptionIndex) -> int:
    """Pixels on the shorter side of the first picture in the order of the files.

    Those that cannot be decoded are passed over. Raises ConfigError if none of the first some
    hundred can be, or the artifact cannot be read.
    """
    for place in index.first.T:
        for image in _images(artifact, index, place[:, None]):
            try:
                return min(decode_rgb(image).size)
            except BadImageError:
                continue
    raise ConfigError(
        f"base_set: {artifact.uri!r} has no image that can be decoded among the first "
        f"{index.first.shape[1]}; allowed: pictures"
    )


def _images(artifact: Artifact, index: CaptionIndex, places: np.ndarray) -> list[bytes]:
    """Encoded pictures; places: (2, n), numbers of files and rows in them."""
    return [row["image"] for row in rows_of_pictures(artifact, index, places, ["image"])]


def rows_of_pictures(
    artifact: Artifact, index: CaptionIndex, places: np.ndarray, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """These columns of the table `rows`; places: (2, n), numbers of files and rows in them.

    Raises ConfigError if the table is damaged.
    """
    batch = {
        "source": np.full(places.shape[1], artifact.uri),
        "file": np.array([index.files[file] for file in places[0]]),
        "place": places[1].astype(np.int64),
    }
    with artifact.damage_told("rows"):
        return read_rows(batch, columns)


def _picture(image: bytes, size: int) -> np.ndarray:
    square = resized_square(decode_rgb(image, size), size)
    return np.ascontiguousarray(square.transpose(2, 0, 1))
