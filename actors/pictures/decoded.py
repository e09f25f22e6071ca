"""Pictures of an artifact's rows, decoded once per node and shared by memory map."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from actors.pictures.codec import DECODING, BadImageError, decode_rgb, resized_square
from actors.pictures.places import image_places, read_images, texts_of_ids
from cluster.artifacts import Artifact
from cluster.cache import cached, new_array
from cluster.rows import digest

ROWS_AT_ONCE = 256
PIXELS = "pixels.npy"


def pictures(
    artifact: Artifact,
    ids: Sequence[str],
    size: int,
    resize: str = "crop",
    interpolation: str = "bicubic",
) -> Tensor:
    """(N, 3, size, size) uint8 of these rows, in this order, by a CLIP's test transform.

    artifact: with a table `rows` that has `id` and `image`. resize, interpolation: of
    `actors.pictures.codec.resized_square`. The array lies in the node's cache,
    whose place follows from the rows alone. Raises BadImageError, which names it, if an image
    cannot be decoded, ValueError if a row is not there.
    """
    if not ids:  # nothing that could be mapped
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    manifest, shape = artifact.manifest, (len(ids), 3, size, size)
    identity = (artifact.uri, manifest.content_hash, manifest.created)
    how = (size, resize, interpolation)
    name = digest(DECODING, *identity, *map(str, how), *ids).hex()
    folder = cached(
        f"pictures-{name}",
        lambda folder: _decode(artifact, ids, new_array(folder / PIXELS, shape), how),
    )
    # "c", copy on write: pages stay shared by all processes, and torch gets a writable array
    return torch.from_numpy(np.load(folder / PIXELS, mmap_mode="c"))


def _decode(
    artifact: Artifact, ids: Sequence[str], pixels: np.ndarray, how: tuple[int, str, str]
) -> None:
    """Fills pixels (N, 3, S, S), reading the artifact's files from front to back."""
    places = image_places(artifact, [], pc.field("id").isin(pa.array(ids, pa.string())))
    if missing := len(set(ids)) - len(places):
        raise ValueError(f"{artifact.uri} lacks {missing} of {len(set(ids))} pictures")
    number = {row: i for i, row in enumerate(ids)}
    files, rows = places["file"].to_numpy().astype(str), places["place"].to_numpy()
    ordered = texts_of_ids(places.take(np.lexsort((rows, files))))
    for part in ordered.to_batches(ROWS_AT_ONCE):
        batch = {name: np.array(part.column(name).to_pylist()) for name in part.schema.names}
        for row, data in zip(batch["id"], read_images(batch), strict=True):
            try:
                image = resized_square(decode_rgb(data), *how)
            except BadImageError as error:
                raise BadImageError(f"{artifact.uri}, image {row}: {error}") from error
            pixels[number[row]] = image.transpose(2, 0, 1)
