"""The plain way to draw from a base set: everything is decoded beforehand, at the first one's size.

So it was done until images were read as they are needed; without images that cannot be decoded, the
draws are the same.
"""

from collections.abc import Sequence

import numpy as np

from actors.pictures.base_set import BaseSetRows
from actors.pictures.codec import BadImageError, decode_rgb, resized_square
from cluster.rows import digest, row_rng

COLUMNS = ("dataset", "class_name", "index", "view")


class DecodedBaseSet:
    """Captions with at least two images that can be decoded; all images are in memory."""

    def __init__(self, rows: BaseSetRows) -> None:
        images: list[np.ndarray] = []
        places: dict[str, dict[int, int]] = {}
        for row in rows.good(COLUMNS):
            try:
                decoded = decode_rgb(row["image"])
            except BadImageError:
                continue
            size = images[0].shape[-1] if images else min(decoded.size)
            caption = digest(row["dataset"], row["class_name"], str(row["index"])).hex()
            places.setdefault(caption, {})[row["view"]] = len(images)
            images.append(resized_square(decoded, size).transpose(2, 0, 1))
        self.pixels = np.stack(images)
        pairs = {
            caption: [views[view] for view in sorted(views)]
            for caption, views in sorted(places.items())
            if len(views) > 1
        }
        self.captions, self.views = list(pairs), list(pairs.values())

    def draw(
        self, rows: Sequence[int] | np.ndarray, stream: str, numbers: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `BaseSet.draw`."""
        views, per_view = numbers
        images = np.empty((2, len(rows)), dtype=np.int64)
        uniform = np.empty((views, len(rows), per_view), dtype=np.float32)
        for place, row in enumerate(rows):
            rng = row_rng(self.captions[row], stream)
            images[:, place] = rng.choice(self.views[row], size=2, replace=False)
            uniform[:, place] = rng.random(numbers, dtype=np.float32)
        return self.pixels[images], uniform
