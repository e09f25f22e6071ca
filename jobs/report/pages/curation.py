"""What a report shows of a curation: kept shares, pictures with their verdict, near test images."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from actors.curation.decisions import CLASS, REASONS
from actors.pictures.codec import BadImageError, decode_rgb, png_bytes, resized_square
from actors.pictures.places import image_places, read_images, texts_of_ids
from cluster.artifacts import Artifact
from jobs.report.pages.render import data_uri
from jobs.report.tables.table import Table, Value

CLASSES, PICTURES, REFUSED = 12, 8, 6
"""Of the gallery: classes; pictures of each; refused ones among them, at most."""
LINES = 20
"""Classes, and pairs of each kind, that are listed."""
PAIRS = 8
"""Pairs of each kind whose pictures are shown."""
THUMBNAIL = 112
"""Pixels of a picture's side."""

Record = dict[str, Any]


@dataclass(frozen=True)
class CurationSection:
    """A curation as the page shows it."""

    summary: Record
    """See `actors.curation.decisions.Curation`."""
    gallery: list[tuple[Record, list[Record]]]
    """Classes of the summary, each with rows of `decisions`; `picture` is a data URI, empty for
    what is no picture."""
    contamination: list[Record]
    """Rows of `contamination`, those that were refused for the least likeness first."""
    pairs: list[Record]
    """Some of them with `picture` and `test_picture`."""

    @property
    def class_table(self) -> Table:
        """The classes with the lowest kept share."""
        header = ["dataset", "class", "group", "pictures", "kept", "kept %", *REASONS]
        lines: list[list[Value]] = [
            [
                *(c[name] for name in (*CLASS, "offered", "kept")),
                f"{100 * c['kept_share']:.1f}",
                *(c[reason] or "" for reason in REASONS),
            ]
            for c in self.summary["classes"][:LINES]
        ]
        return Table(header, lines, names=3)

    @property
    def pair_table(self) -> Table:
        """Imagined pictures beside the test images that they are near."""
        columns = ("listed", "class_name", "test_class_name", "dataset", "hash_distance")
        header = ["listed as", "imagined", "test image of", "dataset", "bits of 64", "cosine"]
        lines: list[list[Value]] = [
            [*(pair[name] for name in columns), f"{pair['cosine']:.3f}"]
            for pair in _some_of_each(self.contamination, LINES)
        ]
        return Table(header, lines, names=4)


def curation_section(
    curation: Artifact, base_set: Artifact, datasets: Iterable[Artifact]
) -> CurationSection:
    """datasets: whose test images are shown beside the imagined pictures that are near them."""
    summary = curation.read_json("summary.json")
    gallery = _gallery(curation, summary["classes"])
    contamination = _sorted_pairs(curation.read_table("contamination").to_pylist())
    pairs = _some_of_each(contamination, PAIRS)
    shown = [row["id"] for _, rows in gallery for row in rows]
    pictures = _thumbnails(base_set, shown + [pair["imagined_id"] for pair in pairs])
    test_pictures: dict[str, str] = {}
    for dataset in datasets:
        test_pictures |= _thumbnails(dataset, [pair["test_id"] for pair in pairs])
    return CurationSection(
        summary,
        [(c, [row | {"picture": pictures.get(row["id"], "")} for row in r]) for c, r in gallery],
        contamination,
        [
            pair
            | {
                "picture": pictures[pair["imagined_id"]],
                "test_picture": test_pictures[pair["test_id"]],
            }
            for pair in pairs
            if pair["test_id"] in test_pictures
        ],
    )


def _sorted_pairs(pairs: Sequence[Record]) -> list[Record]:
    """Refused ones first, those of the least likeness before others."""
    refused = [pair for pair in pairs if pair["listed"] == "refused"]
    others = [pair for pair in pairs if pair["listed"] != "refused"]
    return [*sorted(refused, key=lambda pair: pair["cosine"]), *others]


def _gallery(curation: Artifact, classes: Sequence[Record]) -> list[tuple[Record, list[Record]]]:
    """The classes with the lowest kept share: refused pictures of every reason, then kept ones."""
    lowest = [c for c in classes if c["kept"] < c["offered"]][:CLASSES]
    decisions = curation.open_table("decisions")
    gallery = []
    for c in lowest:
        of_class = pc.scalar(True)
        for name in CLASS:
            of_class &= pc.field(name) == c[name]
        rows = decisions.to_table(filter=of_class).sort_by("id").to_pylist()
        refused = _in_turn([row for row in rows if not row["kept"]])[:REFUSED]
        others = [row for row in rows if row["kept"]]
        gallery.append((c, refused + others[: PICTURES - len(refused)]))
    return gallery


def _in_turn(rows: Sequence[Record]) -> list[Record]:
    """One of each reason before a second of any."""
    turns: dict[str, int] = defaultdict(int)
    places = []
    for row in rows:
        places.append((turns[row["reason"]], REASONS.index(row["reason"]), row["id"]))
        turns[row["reason"]] += 1
    return [row for _, row in sorted(zip(places, rows, strict=True), key=lambda pair: pair[0])]


def _some_of_each(pairs: Sequence[Record], count: int) -> list[Record]:
    kinds = ("refused", "closest by cosine", "closest by hash")
    return [p for kind in kinds for p in [p for p in pairs if p["listed"] == kind][:count]]


def _thumbnails(artifact: Artifact, ids: Sequence[str]) -> dict[str, str]:
    """Data URIs of pictures by id; one that cannot be decoded is left out."""
    wanted = pc.field("id").isin(pa.array(ids, pa.string()))
    places = texts_of_ids(image_places(artifact, [], wanted))
    batch = {name: places[name].to_numpy() for name in places.column_names}
    uris = {}
    for row, image in zip(batch["id"], read_images(batch), strict=True):
        try:
            square = resized_square(decode_rgb(image), THUMBNAIL)
        except BadImageError:
            continue
        uris[row] = data_uri(png_bytes(Image.fromarray(square)))
    return uris
