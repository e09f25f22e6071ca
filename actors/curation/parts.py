"""A curation by many processes: of a base set of which none holds the embeddings.

What a decision depends on, and who looks for it:

- copies of test images: on the picture and all test images. A piece for each part of the critique.
- near-copies: on all pictures that are not refused, of any class and dataset. Whoever looks holds
  all hashes, and reads the embeddings of those whose hashes are near; a piece for so many pictures
  in question, in a few rounds (`actors.curation.copies.first_likes`).
- exact copies: on all hashes of pixels; low scores: on the scores of a class. Both take the driver
  less than to send them.

So the driver holds about 110 bytes a picture, a worker that looks for near-copies as many, another
one the embeddings of a part and of the test images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.curation.columns import ROWS, digests_in_order, imagined_rows, rows_at
from actors.curation.copies import (
    ROWS_AT_ONCE,
    EarlierPictures,
    Pairs,
    exact_copies,
    first_likes,
)
from actors.curation.critique import (
    ROLES,
    TABLE,
    Critique,
    as_array,
    packed,
    read_critique,
)
from actors.curation.decisions import (
    PRECEDENCE,
    Curation,
    CurationConfig,
    NearestOfRows,
    curate,
)
from actors.curation.likeness import NONE, Near, Nearest, Pictures, nearest
from actors.curation.stored import StoredEmbeddings, store_part
from cluster.artifacts import WORK, Artifact, Draft
from cluster.folder import Folder
from cluster.pieces import Pieces, Tables, make_pieces
from cluster.pool import Pool

PART_ROWS = 65_536
"""Rows of a part, about; a critique of no more is decided on by the driver."""
TESTS = f"{WORK}/tests"
TEST_ROWS = ROWS.append(pa.field("embedding", pa.binary()))
NEAREST = pa.schema(
    [
        *((name, pa.int32()) for name in ("by_cosine", "by_hash", "copied")),
        ("cosine", pa.float64()),
        ("distance", pa.int32()),
    ]
)
ROUND = pa.schema(
    [
        ("hash", pa.uint64()),
        *((name, pa.int64()) for name in ("caption", "place")),
        ("open", pa.bool_()),
    ]
)
PAIRS = pa.schema([("later", pa.int64()), ("earlier", pa.int64())])


@dataclass(frozen=True)
class Part:
    """Some row groups of a file of a critique."""

    file: str
    number: int
    first: int
    last: int

    @property
    def key(self) -> str:
        return f"{self.number:06d}"


@dataclass(frozen=True)
class Some:
    """Some of the rows in question of a round."""

    start: int
    stop: int

    @property
    def key(self) -> str:
        return f"{self.start:012d}"


def curate_parts(out: Draft, critique: Artifact, config: CurationConfig, pool: Pool) -> Curation:
    """Decides as `curate` does, part by part if there are several; pieces are kept in `out`."""
    parts = critique_parts(critique)
    if len(parts) <= 1:
        return curate(*read_critique(critique), config)
    pool = replace(pool, gpus=0.0)
    dimensions = critique.manifest.extra["embed_dim"]
    folder = Folder(out.uri)
    unpacked = Pieces(out, {"tests": TEST_ROWS, "rows": ROWS})
    unpack = partial(Unpack, critique, folder, dimensions)
    make_pieces(unpacked, parts, unpack, pool, title="embeddings", unit="parts")
    keys = [part.key for part in parts]
    tests = _tests(unpacked, keys, dimensions).sorted_by(["id"]).readable()
    out.write_table(TESTS, _with_embeddings(tests))
    imagined, places, sizes = imagined_rows(unpacked, keys)
    stored = StoredEmbeddings(folder, sizes, dimensions)
    critiqued = Critique(imagined, stored.at(places), tuple(PRECEDENCE))
    search = SearchByParts(out, parts, stored, places, critiqued.pictures.hashes, pool)
    return curate(critiqued, tests, config, search)


def critique_parts(critique: Artifact) -> list[Part]:
    """Parts of PART_ROWS rows at least, but for the last of each file."""
    parts: list[Part] = []
    for fragment in critique.open_table(TABLE).get_fragments():
        fragment.ensure_complete_metadata()
        groups = fragment.row_groups
        first = rows = 0
        for number, group in enumerate(groups):
            rows += group.num_rows
            if rows >= PART_ROWS or number == len(groups) - 1:
                parts.append(Part(fragment.path, len(parts), first, number + 1))
                first, rows = number + 1, 0
    return parts


class Unpack:
    """Stores the embeddings of a part's imagined pictures; makes its other columns, and the rows of
    its test images."""

    def __init__(self, critique: Artifact, folder: Folder, dimensions: int) -> None:
        self.critique, self.folder, self.dimensions = critique, folder, dimensions

    def __call__(self, part: Part) -> Tables:
        fs, _ = self.critique.filesystem()
        with pq.ParquetFile(part.file, filesystem=fs, pre_buffer=False) as file:
            rows = file.read_row_groups(range(part.first, part.last))
        imagined, tests = (rows.filter(pc.equal(rows["role"], role)) for role in ROLES)
        store_part(self.folder, part.key, as_array(imagined["embedding"], self.dimensions))
        return {
            "rows": packed(imagined.select(ROWS.names)),
            "tests": packed(tests.select(TEST_ROWS.names)),
        }


class PartNearest:
    """The nearest test images of a part's pictures; rows of NEAREST."""

    def __init__(
        self, folder: Folder, rows: Pieces, stored: StoredEmbeddings, near: Sequence[Near]
    ) -> None:
        self.rows, self.stored, self.near = rows, stored, near
        tests = folder.read_table(TESTS)
        embeddings = as_array(tests["embedding"], stored.dimensions)
        self.tests = Pictures(tests["hash"].to_numpy(), embeddings)

    def __call__(self, part: Part) -> Tables:
        rows = self.rows.read("rows", part.key)
        critique = Critique(rows, self.stored.of_part(part.key))
        readable = np.flatnonzero(~critique.broken)
        near = nearest(critique.pictures, readable, self.tests, self.near, lambda _: None)
        columns = {}
        for field in NEAREST:
            values = np.full(len(rows), NONE, dtype=field.type.to_pandas_dtype())
            values[readable] = getattr(near, field.name)
            columns[field.name] = values
        return {"nearest": pa.table(columns)}


class PartCopies:
    """Pairs of some rows in question and earlier ones; rows of PAIRS, places in the table of the
    round, which holds those that are not refused."""

    def __init__(self, folder: Folder, name: str, stored: StoredEmbeddings, near: Near) -> None:
        self.name, members = name, folder.read_table(f"{WORK}/{name}")
        pictures = Pictures(members["hash"].to_numpy(), stored.at(members["place"].to_numpy()))
        self.rows = np.flatnonzero(members["open"].to_numpy())
        captions, every = members["caption"].to_numpy(), np.arange(len(members))
        self.index = EarlierPictures(pictures, captions, near, every)

    def __call__(self, some: Some) -> Tables:
        later, earlier = self.index.pairs(self.rows[some.start : some.stop])
        return {self.name: pa.table({"later": later, "earlier": earlier})}


class SearchByParts:
    """A search on the workers of a pool; see `actors.curation.decisions.Search`."""

    def __init__(
        self,
        out: Draft,
        parts: Sequence[Part],
        stored: StoredEmbeddings,
        places: np.ndarray,
        hashes: np.ndarray,
        pool: Pool,
    ) -> None:
        """places, hashes: (N,) of the imagined pictures in PRECEDENCE, places in what is stored;
        the tests lie in the table TESTS."""
        self.out, self.parts, self.pool = out, parts, pool
        self.stored, self.places, self.hashes = stored, places, hashes
        self.unpacked = Pieces(out, {"rows": ROWS})

    def nearest(self, rows: np.ndarray, near: Sequence[Near]) -> Iterator[NearestOfRows]:
        pieces, folder = Pieces(self.out, {"nearest": NEAREST}), Folder(self.out.uri)
        load = partial(PartNearest, folder, self.unpacked, self.stored, near)
        make_pieces(pieces, self.parts, load, self.pool, title="contamination", unit="parts")
        wanted = np.zeros(len(self.places), dtype=bool)
        wanted[rows] = True
        every, start = rows_at(self.places), 0
        for part in self.parts:
            columns = pieces.read("nearest", part.key)
            of_part = every[start : start + len(columns)]
            some = np.flatnonzero(wanted[of_part])
            values = {name: columns[name].to_numpy()[some] for name in NEAREST.names}
            yield of_part[some], Nearest(**values)
            start += len(columns)

    def exact_copies(self, rows: np.ndarray) -> Pairs:
        keys = [part.key for part in self.parts]
        return exact_copies(digests_in_order(self.unpacked, keys, self.places), rows)

    def first_likes(self, rows: np.ndarray, captions: np.ndarray, near: Near) -> np.ndarray:
        rounds = count()

        def look(open_: np.ndarray, members: np.ndarray) -> Iterator[Pairs]:
            number = next(rounds)
            title = f"duplicates, round {number + 1}" if number else "duplicates"
            self._write_round(f"pairs-{number}", rows, captions, open_, members)
            return self._pairs_of_round(f"pairs-{number}", title, near, len(open_), members)

        return first_likes(len(rows), look)

    def _write_round(
        self,
        name: str,
        rows: np.ndarray,
        captions: np.ndarray,
        open_: np.ndarray,
        members: np.ndarray,
    ) -> None:
        is_open = np.zeros(len(rows), dtype=bool)
        is_open[open_] = True
        with (
            self.out.open_file(f"{WORK}/{name}/part-0.parquet") as stream,
            pq.ParquetWriter(stream, ROUND) as file,
        ):
            for start in range(0, len(members), ROWS_AT_ONCE):
                some = members[start : start + ROWS_AT_ONCE]
                columns = {
                    "hash": self.hashes[rows[some]],
                    "caption": captions[some],
                    "place": self.places[rows[some]],
                    "open": is_open[some],
                }
                file.write_table(pa.table(columns).cast(ROUND))

    def _pairs_of_round(
        self, name: str, title: str, near: Near, open_: int, members: np.ndarray
    ) -> Iterator[Pairs]:
        works = [Some(start, min(start + PART_ROWS, open_)) for start in range(0, open_, PART_ROWS)]
        pieces = Pieces(self.out, {name: PAIRS})
        load = partial(PartCopies, Folder(self.out.uri), name, self.stored, near)
        make_pieces(pieces, works, load, self.pool, title=title, unit="parts")
        for some in works:
            pairs = pieces.read(name, some.key)
            yield members[pairs["later"].to_numpy()], members[pairs["earlier"].to_numpy()]


def _tests(unpacked: Pieces, keys: Sequence[str], dimensions: int) -> Critique:
    rows = pa.Table.from_batches(unpacked.batches("tests", keys), TEST_ROWS)
    return Critique(rows.drop_columns(["embedding"]), as_array(rows["embedding"], dimensions))


def _with_embeddings(tests: Critique) -> pa.Table:
    """`hash` and `embedding`."""
    embeddings = [row.tobytes() for row in tests.embeddings[np.arange(len(tests))]]
    column = pa.array(embeddings, pa.binary())
    return pa.table({"hash": tests.pictures.hashes, "embedding": column})
