"""Where tokens lie in the files of a features artifact.

The images of a split, those that cannot be decoded included, are numbered in the order of their
pictures' files, so that who encodes some that follow one another reads few files. Shard s of view v
is the file `{split}/view-{v}/{s:06d}.f16`: `ShardSizes.images` images, the last shard fewer, one
after the other, each (1 + P, D) float16, little-endian, or zeros where it cannot be decoded.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np

TOKEN = np.dtype("<f2")
SHARD = ".f16"
"""Ends the name of a file of tokens."""
SHARD_BYTES = 256_000_000
"""Of one image range in all its views, about."""
SHARD_IMAGES = 1024
"""At most, about: what a run that is killed loses of each worker."""
MAPPED = max(65536, mmap.ALLOCATIONGRANULARITY)
"""Bytes of which a shard has a multiple, so that shards can be mapped one after the other into
memory, whatever the size of a page where they are read."""


def image_bytes(image: tuple[int, int]) -> int:
    """Of one image in one view; image: 1 + P tokens, D channels."""
    return prod(image) * TOKEN.itemsize


@dataclass(frozen=True)
class ShardSizes:
    """Of a split: what each of its files holds."""

    count: int
    """Images, those that cannot be decoded included."""
    views: int
    image: tuple[int, int]
    """1 + P tokens, D channels."""
    images: int
    """Of a shard, but for the last one."""

    @classmethod
    def of(cls, count: int, views: int, image: tuple[int, int]) -> "ShardSizes":
        """SHARD_BYTES or SHARD_IMAGES, whichever is less, in multiples of MAPPED bytes."""
        size = image_bytes(image)
        step = MAPPED // gcd(MAPPED, size)
        images = min(SHARD_IMAGES, SHARD_BYTES // (size * views))
        return cls(count, views, image, max(1, images // step) * step)

    @property
    def image_bytes(self) -> int:
        """Of one image in one view."""
        return image_bytes(self.image)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return self.count * self.views * self.image_bytes

    def ranges(self) -> Iterator[range]:
        """The images of every shard."""
        for start in range(0, self.count, self.images):
            yield range(start, min(start + self.images, self.count))

    def plain(self) -> dict[str, Any]:
        """As a manifest says it."""
        sizes = {"count": self.count, "views": self.views, "images": self.images}
        return {**sizes, "image": list(self.image)}

    @classmethod
    def parsed(cls, sizes: dict[str, Any]) -> "ShardSizes":
        """Of what `plain` gave."""
        tokens, channels = sizes["image"]
        return cls(sizes["count"], sizes["views"], (tokens, channels), sizes["images"])


def shard_file(split: str, view: int, shard: int) -> str:
    """Below the artifact's folder."""
    return f"{split}/{shard_name(view, shard)}"


def shard_name(view: int, shard: int) -> str:
    """Below the split's folder."""
    return f"view-{view}/{shard:06d}{SHARD}"
