"""Which imagined pictures are kept, from what a critic said of them: arrays in, tables out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from jsonargparse.typing import ClosedUnitInterval, PositiveFloat

from actors.curation.closest import ClosestPairs, pairs_table
from actors.curation.copies import Pairs, exact_copies, first_likes_here
from actors.curation.critique import Critique, as_text, digests, hash_texts
from actors.curation.hashes import place_type, places_where
from actors.curation.likeness import NONE, Near, Nearest, Pictures, nearest
from actors.curation.scores import class_deviations, low_scores
from cluster.progress import show_progress

REASONS = ("broken", "flat", "contaminated", "duplicate", "low score")
"""Reasons why a picture is refused; of several the first."""
CLASS = ["dataset", "class_name", "group"]
CAPTION = ["dataset", "class_name", "index"]
PRECEDENCE = ["index", "view", "dataset", "class_name", "id"]
"""Columns that order the pictures: of several near-copies the first is kept."""
ROWS_AT_ONCE = 2**20
"""Decisions in memory as they are written; a row group of the table."""
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
    """What is kept of N imagined pictures and why the others are not."""

    imagined: Critique
    """In PRECEDENCE."""
    tests: Critique
    reason: np.ndarray
    """(N,) int8: 0 if kept, else 1 + a place in REASONS."""
    copy_of: np.ndarray
    """(N,) int32 (int64 if that is too small): row of the test image or of the kept picture
    that it is a copy of, or NONE."""
    deviation: np.ndarray
    """(N,) float32: of the score from its class's median."""
    contamination: pa.Table
    """Pairs: imagined_id, class_name, test_id, test_class_name, dataset (of the test image),
    hash_distance, cosine, listed ("refused", or "closest by cosine" or "closest by hash" of those
    not refused)."""
    summary: dict[str, Any]
    """`offered`, `kept`, `kept_share` and a count for each of REASONS, over all and for each of
    `classes` (lowest share first); `min_kept_share` and how many classes are `below_it`;
    `test_images` per dataset."""

    @property
    def decisions(self) -> pa.Table:
        """Per imagined picture: id, dataset, class_name, group, index, view, kept, reason ("" if
        kept, else one of REASONS), detail (id of the picture that it is a copy of; what is broken),
        score, deviation, contrast, hash."""
        return self._decisions(0, len(self.reason))

    @property
    def schema(self) -> pa.Schema:
        """Of `decisions`."""
        return self._decisions(0, 0).schema

    def batches(self) -> Iterator[pa.Table]:
        """The rows of `decisions`, ROWS_AT_ONCE at most together."""
        for start in range(0, max(len(self.reason), 1), ROWS_AT_ONCE):
            yield self._decisions(start, start + ROWS_AT_ONCE)

    def _decisions(self, start: int, stop: int) -> pa.Table:
        rows = self.imagined.rows.slice(start, stop - start)
        reason = self.reason[start:stop]
        decisions = pa.table({name: as_text(rows[name]) for name in ["id", *CLASS]})
        names = np.array(["", *REASONS], dtype=object)
        columns = {
            "index": rows["index"].cast(pa.int64()),
            "view": rows["view"].cast(pa.int64()),
            "kept": pa.array(reason == 0),
            "reason": pa.array(names[reason], pa.string()),
            "detail": pa.array(self._details(rows, reason, start), pa.string()),
            "score": rows["score"],
            "deviation": pa.array(self.deviation[start:stop]),
            "contrast": rows["contrast"],
            "hash": hash_texts(rows),
        }
        for name, column in columns.items():
            decisions = decisions.append_column(name, column)
        return decisions

    def _details(self, rows: pa.Table, reason: np.ndarray, start: int) -> np.ndarray:
        details = rows["reason"].to_numpy().copy()
        for name, of in (("contaminated", self.tests), ("duplicate", self.imagined)):
            places = np.flatnonzero(reason == _number(name))
            ids = of.rows["id"].take(pa.array(self.copy_of[start + places]))
            details[places] = as_text(ids).to_numpy()
        return details


NearestOfRows = tuple[np.ndarray, Nearest]
"""Rows of imagined pictures, (M,), and the nearest test image of each."""


class Search(Protocol):
    """Looks for copies of imagined pictures, here or on other nodes."""

    def nearest(self, rows: np.ndarray, near: Sequence[Near]) -> Iterator[NearestOfRows]:
        """The nearest test image of each of these imagined pictures, (M,) in ascending order; some
        at a time, in any order."""

    def exact_copies(self, rows: np.ndarray) -> Pairs:
        """Which of these imagined pictures, (M,) in ascending order, have the pixels of an earlier
        one of them; see `actors.curation.copies.exact_copies`."""

    def first_likes(self, rows: np.ndarray, captions: np.ndarray, near: Near) -> np.ndarray:
        """For each of these imagined pictures the place in `rows` of the kept one that it is a
        near-copy of, or NONE; see `actors.curation.copies.first_likes`.

        rows: (M,) in ascending order, which is their order; captions: (M,) int.
        """


@dataclass(frozen=True)
class SearchHere:
    """A search by this process alone."""

    imagined: Critique
    tests: Critique

    def nearest(self, rows: np.ndarray, near: Sequence[Near]) -> Iterator[NearestOfRows]:
        pictures, tests = self.imagined.pictures, self.tests.pictures
        with show_progress("contamination", len(rows), "images") as progress:
            yield rows, nearest(pictures, rows, tests, near, progress.advance)

    def exact_copies(self, rows: np.ndarray) -> Pairs:
        return exact_copies(digests(self.imagined.rows["pixels"]), rows)

    def first_likes(self, rows: np.ndarray, captions: np.ndarray, near: Near) -> np.ndarray:
        every = self.imagined.pictures
        pictures = Pictures(every.hashes[rows], every.embeddings[rows])
        with show_progress("duplicates", len(rows), "images") as progress:
            return first_likes_here(pictures, captions, near, progress.advance)


def curate(
    imagined: Critique, tests: Critique, config: CurationConfig, search: Search | None = None
) -> Curation:
    """Decides on every imagined picture; the order of the rows plays no part.

    search: of the imagined pictures in PRECEDENCE and of the readable tests in order of id; by
    default this process looks.
    """
    imagined = imagined.sorted_by(PRECEDENCE)
    tests = tests.sorted_by(["id"]).readable()
    search = search or SearchHere(imagined, tests)
    reason = np.zeros(len(imagined), dtype=np.int8)
    copy_of = np.full(len(imagined), NONE, dtype=place_type(max(len(imagined), len(tests))))
    reason[imagined.broken] = _number("broken")
    reason[(reason == 0) & (imagined.column("contrast") < config.flat_below)] = _number("flat")

    closest = ClosestPairs()
    for rows, near in search.nearest(places_where(reason == 0), config.contaminated):
        copies = near.copied != NONE
        reason[rows[copies]] = _number("contaminated")
        copy_of[rows[copies]] = near.copied[copies]
        closest.take(rows, near)
    refused = np.flatnonzero(reason == _number("contaminated"))
    pairs = pairs_table(imagined, tests, refused, copy_of[refused], closest)

    later, earlier = _duplicates(imagined, places_where(reason == 0), config.duplicate, search)
    reason[later] = _number("duplicate")
    copy_of[later] = earlier

    classes = imagined.codes(CLASS)
    deviation = class_deviations(imagined.column("score"), classes, reason == 0)
    low = low_scores(
        deviation, classes, reason == 0, below=config.low_score, left=config.min_kept_share
    )
    reason[low] = _number("low score")
    summary = _summary(imagined, classes, reason, tests, config)
    return Curation(imagined, tests, reason, copy_of, deviation, pairs, summary)


def _number(reason: str) -> int:
    """What stands for a reason in `Curation.reason`."""
    return 1 + REASONS.index(reason)


def _duplicates(imagined: Critique, rows: np.ndarray, near: Near, search: Search) -> Pairs:
    """Those of `rows`, which are in PRECEDENCE, that are copies, and the kept one that each is a
    copy of.

    Views of one caption are meant to be alike, and as different pictures of one thing they are
    what pretraining learns from: among them only an exact copy, the same pixels, is refused.
    """
    again, original = search.exact_copies(rows)
    distinct = np.delete(rows, again)
    first = search.first_likes(distinct, imagined.codes(CAPTION)[distinct], near)
    copies = np.flatnonzero(first != NONE)
    later, earlier = distinct[copies], distinct[first[copies]]
    again, original = rows[again], rows[original]
    at = np.searchsorted(later, original)  # an original may be a near-copy of a kept one
    is_copy = np.append(later, NONE)[at] == original
    original = np.where(is_copy, np.append(earlier, NONE)[at], original)
    return np.concatenate([later, again]), np.concatenate([earlier, original])


def _summary(
    imagined: Critique,
    of_class: np.ndarray,
    reason: np.ndarray,
    tests: Critique,
    config: CurationConfig,
) -> dict[str, Any]:
    """of_class: (N,) int, one number for each class."""
    row = np.arange(len(reason), dtype=place_type(len(reason)))
    columns = {"class": of_class, "reason": reason, "row": row}
    groups = pa.table(columns).group_by(["class", "reason"])
    numbers = groups.aggregate([([], "count_all"), ("row", "min")])
    names = imagined.rows.select(CLASS).take(numbers["row_min"].combine_chunks())
    keys = zip(*(as_text(names[name]).to_pylist() for name in CLASS), strict=True)
    counts: dict[tuple[str, ...], dict[str, int]] = {}
    for key, row in zip(keys, numbers.to_pylist(), strict=True):
        counts.setdefault(key, {})[("", *REASONS)[row["reason"]]] = row["count_all"]
    classes = [dict(zip(CLASS, key, strict=True)) | _shares(n) for key, n in counts.items()]
    bound = config.min_kept_share
    whole = Counter[str]()
    for class_counts in counts.values():
        whole.update(class_counts)
    return _shares(whole) | {
        "min_kept_share": bound,
        "below_it": sum(c["kept_share"] < bound for c in classes),
        "test_images": dict(sorted(Counter(as_text(tests.rows["dataset"]).to_pylist()).items())),
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
