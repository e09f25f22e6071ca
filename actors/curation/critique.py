"""The critique of a base set: a plan for critics, and what they said, as arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.curation.hashes import place_type
from actors.curation.likeness import Pictures
from actors.curation.stored import StoredEmbeddings
from actors.pictures.places import PLACE, places_by_file, without_repeats
from cluster.artifacts import Artifact
from cluster.catalog.dataset import Dataset
from cluster.errors import ConfigError

TABLE = "pictures"
PLAN_ROWS = 1_000_000
ROLES = ("imagined", "test")
PLAN = pa.schema(
    [
        *[(name, pa.string()) for name in ("id", "role", "dataset", "class_name", "group")],
        *[(name, pa.int64()) for name in ("index", "view")],
        ("text", pa.string()),
        *[(name, pa.int64() if name == "place" else pa.string()) for name in PLACE],
    ]
)


@dataclass(frozen=True)
class Critique:
    """What a critic said of N pictures."""

    rows: pa.Table
    """`id`, `dataset`, `class_name`, `group`, `index`, `view`, and what
    `actors.curation.critic.Critic` adds but the embedding; of test images index and view have no
    meaning. Texts may be packed (`packed`)."""
    embeddings: np.ndarray | StoredEmbeddings
    """(N, D) float16 of unit length, anything where there is a reason."""
    order: tuple[str, ...] = ()
    """Columns by which the rows are known to be sorted."""

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> np.ndarray:
        return self.rows[name].to_numpy()

    def codes(self, names: list[str]) -> np.ndarray:
        """(N,) int32 if it holds them, else int64: one number for each distinct tuple of these
        columns."""
        codes, size = np.zeros(len(self), dtype=np.int64), 1
        for name in names:
            values = _encoded(self.rows[name])
            size *= len(values.dictionary)
            codes *= len(values.dictionary)
            codes += values.indices.to_numpy()
        return codes.astype(place_type(size))

    @property
    def broken(self) -> np.ndarray:
        """(N,) bool: no picture."""
        # Arrow's own indices_nonzero ends the process at an empty chunk in releases before 26.0.1.
        return pc.not_equal(self.rows["reason"], "").to_numpy()

    @cached_property
    def pictures(self) -> Pictures:
        return Pictures(hash_numbers(self.rows["hash"]), self.embeddings)

    def sorted_by(self, names: list[str]) -> "Critique":
        """In ascending order of these columns; the same object if it is known to be."""
        if self.order == tuple(names):
            return self
        return replace(self._taken(sort_places(self.rows, names)), order=tuple(names))

    def readable(self) -> "Critique":
        """Without those that are no picture."""
        return self._taken(np.flatnonzero(~self.broken))

    def _taken(self, places: np.ndarray) -> "Critique":
        rows = self.rows.take(pa.array(places))
        if isinstance(self.embeddings, StoredEmbeddings):
            return Critique(rows, self.embeddings.taken(places))
        return Critique(rows, self.embeddings[places])


def as_array(embeddings: pa.ChunkedArray | pa.Array, dimensions: int) -> np.ndarray:
    """(N, D) float16; zeros of what is no picture."""
    array = np.zeros((len(embeddings), dimensions), dtype=np.float16)
    values = embeddings.to_pylist()
    there = [row for row, value in enumerate(values) if value]
    joined = b"".join(values[row] for row in there)
    array[there] = np.frombuffer(joined, np.float16).reshape(-1, dimensions)
    return array


def sort_places(rows: pa.Table, names: list[str]) -> np.ndarray:
    """(N,) int64 that puts rows in ascending order of these columns, the last of which is `id`.

    By one number for all columns before, which a hundred million rows have room for.
    """
    codes, size = np.zeros(len(rows), dtype=np.int64), 1
    for name in names[:-1]:
        values = _ranks(rows[name])
        most = int(values.max(initial=0)) + 1
        if (size := size * most) > np.iinfo(np.int64).max:
            raise ValueError(f"{name}: too many values for a number of 64 bits")
        codes *= most
        codes += values
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    ties = np.zeros(len(rows), dtype=bool)
    ties[1:] = codes[1:] == codes[:-1]
    ties[:-1] |= ties[1:]
    tied = order[ties]
    pairs = pa.table({"code": codes[ties], "id": rows[names[-1]].take(pa.array(tied))})
    order[ties] = tied[pc.sort_indices(pairs, [("code", "ascending"), ("id", "ascending")])]
    return order


def _ranks(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) int, not negative, in the order of the column."""
    if pa.types.is_integer(column.type):
        values = column.to_numpy()
        return values - min(int(values.min(initial=0)), 0)
    encoded = _encoded(column)
    texts = np.array(encoded.dictionary.to_pylist(), dtype=object)
    return np.argsort(np.argsort(texts)).astype(np.int32)[encoded.indices.to_numpy()]


def packed(rows: pa.Table) -> pa.Table:
    """The same in a quarter of the bytes: names by number, hexadecimal digits as bytes.

    Raises ConfigError for ids that are not 32 hexadecimal digits.
    """
    columns = {name: rows[name] for name in rows.column_names}
    columns |= {name: _encoded(rows[name]) for name in ("dataset", "class_name", "group")}
    columns |= {name: _digits_as_bytes(rows[name]) for name in ("id", "pixels")}
    return pa.table(columns | {"hash": hash_numbers(rows["hash"])})


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of a column that may be packed."""
    if pa.types.is_fixed_size_binary(column.type):
        return pa.chunked_array([_hexadecimal(digests(column))])
    return column.cast(pa.string())


def hash_numbers(hashes: pa.ChunkedArray) -> np.ndarray:
    """(N,) uint64 of perceptual hashes, 16 digits each; 0 where there is none."""
    if pa.types.is_uint64(hashes.type):
        return hashes.to_numpy()
    digits = "".join(text or "0" * 16 for text in hashes.to_pylist())
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)


def digests(column: pa.ChunkedArray) -> np.ndarray:
    """(N, 2) uint64, equal where the texts are; of packed ones their 16 bytes."""
    if pa.types.is_fixed_size_binary(column.type) and len(column):
        values = column.combine_chunks()
        start, numbers = 16 * values.offset, 2 * len(values)
        return np.frombuffer(values.buffers()[1], np.uint64, numbers, start).reshape(-1, 2)
    codes = _encoded(column).indices.to_numpy().astype(np.uint64)
    return np.stack([codes, np.zeros_like(codes)], axis=1)


def hash_texts(rows: pa.Table) -> pa.ChunkedArray:
    """The perceptual hashes, 16 digits each; empty of what is no picture."""
    hashes = rows["hash"]
    if not pa.types.is_uint64(hashes.type):
        return hashes
    texts = _hexadecimal(hashes.to_numpy().astype(">u8"))
    return pc.if_else(pc.equal(rows["reason"], ""), texts, "")


def _hexadecimal(values: np.ndarray) -> pa.Array:
    """The bytes of each of (N, …) values as text; Python's own would take 0.2 kB a picture."""
    data = values.view(np.uint8).reshape(len(values), values.nbytes // max(len(values), 1))
    offsets = np.arange(len(data) + 1, dtype=np.int32) * np.int32(2 * data.shape[1])
    digits = np.frombuffer(bytes(range(256)).hex().encode(), np.uint16)[data]
    return pa.StringArray.from_buffers(len(data), pa.py_buffer(offsets), pa.py_buffer(digits))


def _digits_as_bytes(column: pa.ChunkedArray) -> pa.Array:
    digits = "".join(text or "0" * 32 for text in column.to_pylist())
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        data = b""
    if len(data) != 16 * len(column):
        raise ConfigError("critique: its ids are foreign; allowed: ids of 32 hexadecimal digits")
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(column), [None, pa.py_buffer(data)]
    )


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    return column.unify_dictionaries().combine_chunks().dictionary_encode()


def critique_plans(base_set: Artifact, datasets: Sequence[Dataset]) -> Iterator[pa.Table]:
    """One row (PLAN) per picture of the base set that is not refused, and per test image.

    PLAN_ROWS rows at least, but for the last: the plan of a hundred million pictures takes more
    than a driver has. text: the caption; of a picture that was imported without one "a photo of a
    CLASS."; of a test image none.
    """
    waiting: list[pa.Table] = []
    for rows in chain(_imagined_by_file(base_set), *map(_tests_by_file, datasets)):
        waiting.append(rows)
        if sum(map(len, waiting)) >= PLAN_ROWS:
            yield _in_order(waiting)
            waiting = []
    if waiting:
        yield _in_order(waiting)


def _in_order(parts: list[pa.Table]) -> pa.Table:
    """So that a batch reads few files."""
    rows = without_repeats(pa.concat_tables(parts))
    return rows.sort_by([(name, "ascending") for name in PLACE])


def _imagined_by_file(base_set: Artifact) -> Iterator[pa.Table]:
    columns = ["dataset", "class_name", "group", "index", "view", "caption"]
    for rows in places_by_file(base_set, columns, pc.field("reason") == ""):
        photo = pc.binary_join_element_wise("a photo of a ", rows["class_name"], ".", "")
        text = pc.if_else(pc.equal(rows["caption"], ""), photo, rows["caption"])
        yield _planned(rows, role="imagined", text=text)


def _tests_by_file(dataset: Dataset) -> Iterator[pa.Table]:
    columns, is_test = ["dataset", "class_name", "group"], pc.field("split") == "test"
    for rows in places_by_file(dataset.artifact, columns, is_test):
        yield _planned(rows, role="test", text="", index=0, view=0)


def class_names(base_set: Artifact) -> list[str]:
    """Of all pictures that are not refused."""
    rows = base_set.open_table("rows")
    batches = rows.to_batches(columns=["class_name"], filter=pc.field("reason") == "")
    with base_set.damage_told("rows"):
        return sorted({name for batch in batches for name in pc.unique(batch[0]).to_pylist()})


def _planned(rows: pa.Table, **others: pa.ChunkedArray | str | int) -> pa.Table:
    columns = {name: rows[name] for name in rows.column_names} | {
        name: value if isinstance(value, pa.ChunkedArray) else pa.repeat(value, len(rows))
        for name, value in others.items()
    }
    return pa.table({name: columns[name] for name in PLAN.names}).cast(PLAN)


def read_critique(critique: Artifact) -> tuple[Critique, Critique]:
    """Imagined pictures and test images; reads the embeddings once, into one array each."""
    columns = [name for name in critique.open_table(TABLE).schema.names if name != "embedding"]
    rows = critique.read_table(TABLE, columns)
    imagined, tests = (rows.filter(pc.equal(rows["role"], role)) for role in ROLES)
    return _with_embeddings(critique, imagined), _with_embeddings(critique, tests)


def _with_embeddings(critique: Artifact, rows: pa.Table) -> Critique:
    place = {row: i for i, row in enumerate(rows["id"].to_pylist())}
    embeddings = np.zeros((len(rows), critique.manifest.extra["embed_dim"]), dtype=np.float16)
    for batch in critique.open_table(TABLE).to_batches(columns=["id", "embedding"]):
        places = [place.get(row, -1) for row in batch["id"].to_pylist()]
        values = as_array(batch["embedding"], embeddings.shape[1])
        known = np.flatnonzero(np.array(places, dtype=int) >= 0)
        embeddings[np.array(places, dtype=int)[known]] = values[known]
    return Critique(rows, embeddings)
