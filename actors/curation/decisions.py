"""Which imagined pictures are kept, from what a critic said of them: arrays in, tables out."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jsonargparse.typing import ClosedUnitInterval, PositiveFloat

from actors.curation.copies import first_likes
from actors.curation.critique import Critique
from actors.curation.likeness import NONE, Advance, Near, Nearest, nearest
from cluster.progress import show_progress

REASONS = ("broken", "flat", "contaminated", "duplicate", "low score")
"""Reasons why a picture is refused; of several the first."""
CLOSEST = 20
"""Number of pairs of a kept picture and a test image that are listed, by cosine and by hash."""
CLASS = ["dataset", "class_name", "group"]
CAPTION = ["dataset", "class_name", "index"]
PRECEDENCE = ["index", "view", "dataset", "class_name", "id"]
"""Columns that order the pictures: of several near-copies the first is kept."""
DEVIATION = 1.4826
"""Standard deviation of normal values whose median absolute deviation is 1."""
DUPLICATE = Near(hash_distance=8, cosine=0.95)
CONTAMINATED = (
    Near(hash_distance=4, cosine=-1),
    Near(hash_distance=64, cosine=0.985),
    Near(hash_distance=10, cosine=0.9),
)
"""Near enough for a copy of a test image, by any of these; chosen with the tiny CLIP. No pair of
6,960 sprite scenes and the 5,800 embedded test images, which show other sprites, is as near. Of 300
test images at most one was missed after JPEG of quality 25, a blur, or a crop of 2 % at each side;
90 % were found after a crop of 4 %, 53 % mirrored, 8 % after a crop of 10 %."""


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """When a picture is refused."""

    flat_below: ClosedUnitInterval = 0.02
    """Contrast (deviation of the pixels, of 1) below which a picture shows nothing."""
    duplicate: Near = DUPLICATE
    """A near-copy of a kept picture of another caption. Exact copies are refused anyway."""
    contaminated: tuple[Near, ...] = CONTAMINATED
    """A near-copy of a test image, by any of these."""
    low_score: PositiveFloat = 3.5
    """Robust deviations below the median score of its class. Source of 3.5: Iglewicz and Hoaglin,
    How to Detect and Handle Outliers (1993)."""
    min_kept_share: ClosedUnitInterval = 0.7
    """Share of a class's pictures that low scores leave at least; other reasons may leave less."""


@dataclass(frozen=True)
class Curation:
    """What is kept and why the others are not."""

    decisions: pa.Table
    """Per imagined picture: id, dataset, class_name, group, index, view, kept, reason ("" if kept,
    else one of REASONS), detail (id of the picture that it is a copy of; what is broken), score,
    deviation (of the score from its class's median), contrast, hash."""
    contamination: pa.Table
    """Pairs: imagined_id, class_name, test_id, test_class_name, dataset (of the test image),
    hash_distance, cosine, listed ("refused", or "closest by cosine" or "closest by hash" of those
    not refused)."""
    summary: dict[str, Any]
    """`offered`, `kept`, `kept_share` and a count for each of REASONS, over all and for each of
    `classes` (lowest share first); `min_kept_share` and how many classes are `below_it`;
    `test_images` per dataset."""


def curate(imagined: Critique, tests: Critique, config: CurationConfig) -> Curation:
    """Decides on every imagined picture; the order of the rows plays no part."""
    imagined = imagined.sorted_by(PRECEDENCE)
    tests = tests.sorted_by(["id"]).readable()
    reason = np.full(len(imagined), "", dtype=object)
    detail = imagined.column("reason").copy()
    reason[detail != ""] = "broken"
    reason[(reason == "") & (imagined.column("contrast") < config.flat_below)] = "flat"

    rows = np.flatnonzero(reason == "")
    with show_progress("contamination", len(rows), "images") as progress:
        near = nearest(
            imagined.pictures, rows, tests.pictures, config.contaminated, progress.advance
        )
    copies = near.copied != NONE
    reason[rows[copies]] = "contaminated"
    detail[rows[copies]] = tests.column("id")[near.copied[copies]]

    left = np.flatnonzero(reason == "")
    with show_progress("duplicates", len(left), "images") as progress:
        like = _duplicates(imagined, left, config.duplicate, progress.advance)
    reason[left[like != NONE]] = "duplicate"
    detail[left[like != NONE]] = imagined.column("id")[like[like != NONE]]

    classes = imagined.codes(CLASS)
    deviation = class_deviations(imagined.column("score"), classes, reason == "")
    reason[low_scores(deviation, classes, reason == "", config)] = "low score"

    decisions = imagined.rows.select(["id", *CLASS, "index", "view"])
    columns = {
        "kept": pa.array(reason == ""),
        "reason": pa.array(reason, pa.string()),
        "detail": pa.array(detail, pa.string()),
        "score": imagined.rows["score"],
        "deviation": pa.array(deviation),
        "contrast": imagined.rows["contrast"],
        "hash": imagined.rows["hash"],
    }
    for name, column in columns.items():
        decisions = decisions.append_column(name, column)
    return Curation(
        decisions, _pairs(imagined, rows, tests, near), _summary(decisions, tests, config)
    )


def _duplicates(imagined: Critique, rows: np.ndarray, near: Near, advance: Advance) -> np.ndarray:
    """For each of `rows`, which are in PRECEDENCE, the kept row that it is a copy of, or NONE.

    Views of one caption are meant to be alike, and as different pictures of one thing they are
    what pretraining learns from: among them only an exact copy, the same pixels, is refused.
    """
    _, first, which = np.unique(
        imagined.column("pixels")[rows].astype(str), return_index=True, return_inverse=True
    )
    original = first[which]
    distinct = original == np.arange(len(rows))
    like = np.full(len(rows), NONE)
    like[distinct] = first_likes(
        imagined.pictures, rows[distinct], imagined.codes(CAPTION), near, advance
    )
    copies = np.where(like[original] == NONE, rows[original], like[original])
    return np.where(distinct, like, copies)


def class_deviations(scores: np.ndarray, classes: np.ndarray, good: np.ndarray) -> np.ndarray:
    """(N,) float32: how many robust deviations a score lies above the median of its class.

    classes: (N,) int. Median and median absolute deviation are over the `good` rows, (N,) bool;
    where half of a class's scores are the same, which is no spread, the result is 0.
    A class that CLIP does not know has low scores, which are so compared with each other.
    """
    result = np.zeros(len(scores), dtype=np.float32)
    for members in _members(classes):
        known = scores[members][good[members]]
        if not len(known):
            continue
        median = np.median(known)
        spread = DEVIATION * np.median(np.abs(known - median))
        if spread > 0:
            result[members] = (scores[members] - median) / spread
    return result


def low_scores(
    deviation: np.ndarray, classes: np.ndarray, good: np.ndarray, config: CurationConfig
) -> np.ndarray:
    """(N,) bool: `good` rows, (N,) bool, that are refused for their score.

    Of each class the lowest are refused, and no more than leave `min_kept_share` of all its rows.
    """
    low = np.zeros(len(deviation), dtype=bool)
    for members in _members(classes):
        bound = math.ceil(config.min_kept_share * len(members) - 1e-9)
        room = max(int(good[members].sum()) - bound, 0)
        below = members[good[members] & (deviation[members] < -config.low_score)]
        low[below[np.argsort(deviation[below], kind="stable")][:room]] = True
    return low


def _members(classes: np.ndarray) -> list[np.ndarray]:
    """The rows of each class."""
    by_class = np.argsort(classes, kind="stable")
    return np.split(by_class, np.flatnonzero(np.diff(classes[by_class])) + 1)


def _pairs(imagined: Critique, rows: np.ndarray, tests: Critique, near: Nearest) -> pa.Table:
    """What a reader judges the thresholds by; rows: those of `imagined` that `near` is of."""
    refused = np.flatnonzero(near.copied != NONE)
    accepted = np.flatnonzero((near.copied == NONE) & (near.by_cosine != NONE))
    by_cosine = accepted[np.argsort(-near.cosine[accepted], kind="stable")][:CLOSEST]
    by_hash = accepted[np.argsort(near.distance[accepted], kind="stable")][:CLOSEST]
    chosen = {
        "refused": (refused, near.copied[refused]),
        "closest by cosine": (by_cosine, near.by_cosine[by_cosine]),
        "closest by hash": (by_hash, near.by_hash[by_hash]),
    }
    imagined_rows = rows[np.concatenate([which for which, _ in chosen.values()])]
    test_rows = np.concatenate([places for _, places in chosen.values()])
    imagined_pictures, test_pictures = imagined.pictures, tests.pictures
    bits = np.bitwise_count(
        imagined_pictures.hashes[imagined_rows] ^ test_pictures.hashes[test_rows]
    )
    cosine = (
        imagined_pictures.embeddings[imagined_rows].astype(np.float32)
        * test_pictures.embeddings[test_rows].astype(np.float32)
    ).sum(axis=1)
    columns: dict[str, Any] = {
        "imagined_id": imagined.rows["id"].take(imagined_rows),
        "class_name": imagined.rows["class_name"].take(imagined_rows),
        "test_id": tests.rows["id"].take(test_rows),
        "test_class_name": tests.rows["class_name"].take(test_rows),
        "dataset": tests.rows["dataset"].take(test_rows),
        "hash_distance": pa.array(bits, pa.int32()),
        "cosine": pa.array(cosine),
        "listed": pa.array(
            [name for name, (which, _) in chosen.items() for _ in which], pa.string()
        ),
    }
    return pa.table(columns)


def _summary(decisions: pa.Table, tests: Critique, config: CurationConfig) -> dict[str, Any]:
    counts: dict[tuple[str, ...], dict[str, int]] = {}
    for row in decisions.group_by([*CLASS, "reason"]).aggregate([([], "count_all")]).to_pylist():
        class_counts = counts.setdefault(tuple(row[name] for name in CLASS), {})
        class_counts[row["reason"]] = row["count_all"]
    classes = [dict(zip(CLASS, key, strict=True)) | _shares(n) for key, n in counts.items()]
    bound = config.min_kept_share
    whole = Counter[str]()
    for class_counts in counts.values():
        whole.update(class_counts)
    return _shares(whole) | {
        "min_kept_share": bound,
        "below_it": sum(c["kept_share"] < bound for c in classes),
        "test_images": dict(sorted(Counter(tests.rows["dataset"].to_pylist()).items())),
        "classes": sorted(classes, key=lambda c: (c["kept_share"], *(c[name] for name in CLASS))),
    }


def _shares(counts: Mapping[str, int]) -> dict[str, Any]:
    """counts: rows by reason, the kept ones by ""."""
    offered, accepted = sum(counts.values()), counts.get("", 0)
    reasons = {reason: counts.get(reason, 0) for reason in REASONS}
    return {
        "offered": offered,
        "kept": accepted,
        "kept_share": accepted / max(offered, 1),
    } | reasons
