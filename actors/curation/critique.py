"""The critique of a base set: a plan for critics, and what they said, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.curation.likeness import Pictures
from actors.pictures.places import PLACE, image_places
from cluster.artifacts import Artifact
from cluster.catalog.dataset import Dataset

TABLE = "pictures"
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
    meaning."""
    embeddings: np.ndarray
    """(N, D) float16 of unit length, anything where there is a reason."""

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> np.ndarray:
        return self.rows[name].to_numpy()

    def codes(self, names: list[str]) -> np.ndarray:
        """(N,) int64: one number for each distinct tuple of these columns."""
        codes = np.zeros(len(self), dtype=np.int64)
        for name in names:
            values = self.rows[name].combine_chunks().dictionary_encode()
            codes = codes * len(values.dictionary) + values.indices.to_numpy()
        return codes

    @cached_property
    def pictures(self) -> Pictures:
        hashes = [int(text or "0", 16) for text in self.rows["hash"].to_pylist()]
        return Pictures(np.array(hashes, dtype=np.uint64), self.embeddings)

    def sorted_by(self, names: list[str]) -> "Critique":
        return self._taken(pc.sort_indices(self.rows, [(name, "ascending") for name in names]))

    def readable(self) -> "Critique":
        """Without those that are no picture."""
        # Arrow's own indices_nonzero ends the process at an empty chunk in releases before 26.0.1.
        fine = pc.equal(self.rows["reason"], "").to_numpy()
        return self._taken(pa.array(np.flatnonzero(fine)))

    def _taken(self, places: pa.Array) -> "Critique":
        return Critique(self.rows.take(places), self.embeddings[places.to_numpy()])


def critique_plan(base_set: Artifact, datasets: Sequence[Dataset]) -> pa.Table:
    """One row (PLAN) per picture of the base set that is not refused, and per test image.

    text: the caption; of a picture that was imported without one "a photo of a CLASS."; of a test
    image none.
    """
    columns = ["dataset", "class_name", "group", "index", "view", "caption"]
    imagined = image_places(base_set, columns, pc.field("reason") == "")
    photo = pc.binary_join_element_wise("a photo of a ", imagined["class_name"], ".", "")
    text = pc.if_else(pc.equal(imagined["caption"], ""), photo, imagined["caption"])
    parts = [_planned(imagined, role="imagined", text=text)]
    for dataset in datasets:
        is_test = pc.field("split") == "test"
        tests = image_places(dataset.artifact, ["dataset", "class_name", "group"], is_test)
        parts.append(_planned(tests, role="test", text="", index=0, view=0))
    rows = pa.concat_tables(parts)
    return rows.sort_by([(name, "ascending") for name in PLACE])  # a batch reads few files


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
        ids, values = (column.to_pylist() for column in batch.columns)
        pairs = [
            (place[row], data)
            for row, data in zip(ids, values, strict=True)
            if data and row in place
        ]
        places = [i for i, _ in pairs]
        joined = b"".join(data for _, data in pairs)
        embeddings[places] = np.frombuffer(joined, np.float16).reshape(-1, embeddings.shape[1])
    return Critique(rows, embeddings)
