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
from actors.pictures.places import image_places, read_images
from cluster.artifacts import Artifact
from jobs.report.pages.gallery import data_uri

CLASSES, PICTURES, REFUSED = 12, 8, 6
"""Of the gallery: classes; pictures of each; refused ones among them, at most."""
LINES = 20
"""Classes, and pairs of each kind, that are listed."""
PAIRS = 8
"""Pairs of each kind whose pictures are shown."""
THUMBNAIL = 112
"""Pixels of a picture's side."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Curated:
    """A curation as the page shows it."""

    summary: Row
    """See `actors.curation.decisions.Curation`."""
    gallery: list[tuple[Row, list[Row]]]
    """Classes of the summary, each with rows of `decisions`; `picture` is a data URI, empty for
    what is no picture."""
    contamination: list[Row]
    """Rows of `contamination`, those that were refused for the least likeness first."""
    pairs: list[Row]
    """Some of them with `picture` and `test_picture`."""

    def class_lines(self) -> list[list[Any]]:
        header = ["dataset", "class", "group", "pictures", "kept", "kept %", *REASONS]
        return [header] + [
            [
                *(c[name] for name in (*CLASS, "offered", "kept")),
                f"{100 * c['kept_share']:.1f}",
                *(c[reason] or "" for reason in REASONS),
            ]
            for c in self.summary["classes"][:LINES]
        ]

    def pair_lines(self) -> list[list[Any]]:
        said = ("listed", "class_name", "test_class_name", "dataset", "hash_distance")
        header = ["listed as", "imagined", "test image of", "dataset", "bits of 64", "cosine"]
        return [header] + [
            [*(pair[name] for name in said), f"{pair['cosine']:.3f}"]
            for pair in _some_of_each(self.contamination, LINES)
        ]


def curated(curation: Artifact, base_set: Artifact, datasets: Iterable[Artifact]) -> Curated:
    """datasets: whose test images are shown beside the imagined pictures that are near them."""
    summary = curation.read_json("summary.json")
    gallery = _gallery(curation, summary["classes"])
    found = curation.read_table("contamination").to_pylist()
    refused = [pair for pair in found if pair["listed"] == "refused"]
    refused.sort(key=lambda pair: pair["cosine"])
    pairs = refused + [pair for pair in found if pair["listed"] != "refused"]
    some = _some_of_each(pairs, PAIRS)
    wanted = [row["id"] for _, rows in gallery for row in rows] + [
        pair["imagined_id"] for pair in some
    ]
    pictures = _thumbnails(base_set, wanted)
    tests: dict[str, str] = {}
    for dataset in datasets:
        tests |= _thumbnails(dataset, [pair["test_id"] for pair in some])
    return Curated(
        summary,
        [(c, [row | {"picture": pictures.get(row["id"], "")} for row in r]) for c, r in gallery],
        pairs,
        [
            pair
            | {"picture": pictures[pair["imagined_id"]], "test_picture": tests[pair["test_id"]]}
            for pair in some
            if pair["test_id"] in tests
        ],
    )


def _gallery(curation: Artifact, classes: Sequence[Row]) -> list[tuple[Row, list[Row]]]:
    """The classes with the lowest kept share: some refused pictures, of every reason, then kept
    ones."""
    lowest = [c for c in classes if c["kept"] < c["offered"]][:CLASSES]
    decisions = curation.open_table("decisions")
    found = []
    for c in lowest:
        of_class = pc.scalar(True)
        for name in CLASS:
            of_class &= pc.field(name) == c[name]
        rows = decisions.to_table(filter=of_class).sort_by("id").to_pylist()
        refused = _in_turn([r for r in rows if not r["kept"]])[:REFUSED]
        kept = [row for row in rows if row["kept"]]
        found.append((c, refused + kept[: PICTURES - len(refused)]))
    return found


def _in_turn(rows: Sequence[Row]) -> list[Row]:
    """One of each reason before a second of any."""
    turns: dict[str, int] = defaultdict(int)
    places = []
    for row in rows:
        places.append((turns[row["reason"]], REASONS.index(row["reason"]), row["id"]))
        turns[row["reason"]] += 1
    return [row for _, row in sorted(zip(places, rows, strict=True), key=lambda pair: pair[0])]


def _some_of_each(pairs: Sequence[Row], count: int) -> list[Row]:
    kinds = ("refused", "closest by cosine", "closest by hash")
    return [p for kind in kinds for p in [p for p in pairs if p["listed"] == kind][:count]]


def _thumbnails(artifact: Artifact, ids: Sequence[str]) -> dict[str, str]:
    """Data URIs of pictures by id; one that cannot be decoded is left out."""
    places = image_places(artifact, [], pc.field("id").isin(pa.array(ids, pa.string())))
    batch = {name: places[name].to_numpy() for name in places.column_names}
    found = {}
    for row, image in zip(batch["id"], read_images(batch), strict=True):
        try:
            square = resized_square(decode_rgb(image), THUMBNAIL)
        except BadImageError:
            continue
        found[row] = data_uri(png_bytes(Image.fromarray(square)))
    return found
