"""The gallery of a report: a few captions of a base set with the images made from them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from actors.pictures.codec import BadImageError, decode_rgb, png_bytes
from cluster.artifacts import Artifact
from cluster.rows import row_rng
from jobs.report.pages.render import data_uri

Key = tuple[str, str, int]
"""Of a caption: dataset, class name, index."""


@dataclass(frozen=True)
class GalleryItem:
    """One caption with its imagined images."""

    dataset: str
    class_name: str
    group: str
    caption: str
    images: list[str]
    """Data URIs of those that can be decoded, in order of view."""


def gallery(base_set: Artifact, captions: int, seed: int) -> list[GalleryItem]:
    """Some captions with all their images: drawn by the seed, datasets and groups in turn."""
    names = ["dataset", "class_name", "index"]
    fine = pc.field("reason") == ""
    rows = base_set.open_table("rows")
    first_views = rows.to_table(columns=[*names, "group"], filter=fine & (pc.field("view") == 0))
    pools: dict[tuple[str, str], set[Key]] = defaultdict(set)
    for *key, group in zip(*(column.to_pylist() for column in first_views.columns), strict=True):
        pools[key[0], group].add((key[0], key[1], key[2]))
    drawn = in_turn([sorted(pools[name]) for name in sorted(pools)], captions, seed)
    for place, name in enumerate(names):
        fine &= pc.field(name).isin([key[place] for key in drawn])
    shown: dict[Key, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows.to_table(filter=fine).to_pylist():
        shown[row["dataset"], row["class_name"], row["index"]][row["view"]] = row
    return [_item([view for _, view in sorted(shown[key].items())]) for key in drawn]


def in_turn(pools: Sequence[Sequence[Key]], count: int, seed: int) -> list[Key]:
    """Up to `count` items, one of each pool before a second of any; sorted."""
    rng = row_rng(f"gallery {seed}")
    pools = [pools[i] for i in rng.permutation(len(pools))]
    shuffled = [[pool[i] for i in rng.permutation(len(pool))] for pool in pools]
    rounds = range(max(map(len, pools), default=0))
    drawn = [pool[turn] for turn in rounds for pool in shuffled if turn < len(pool)]
    return sorted(drawn[:count])


def _item(views: Sequence[dict[str, Any]]) -> GalleryItem:
    facts = {name: views[0][name] for name in ("dataset", "class_name", "group", "caption")}
    return GalleryItem(**facts, images=[uri for view in views for uri in _shown(view["image"])])


def _shown(data: bytes) -> Iterator[str]:
    """The picture as PNG, for imported ones come in formats that no browser shows; none if it is
    damaged."""
    with suppress(BadImageError):
        yield data_uri(png_bytes(decode_rgb(data)))
