"""Datasets as artifacts: rows of real images with class, group (IP or OOP) and split."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from cluster.artifacts import Artifact, ConfigError, Draft, open_artifact, open_table
from cluster.rows import digest

DatasetName = Literal[
    "animals", "food", "transport", "clothing", "buildings", "plants", "sport", "music", "tools",
    "symbols", "digits",
]  # fmt: skip
DATASETS: tuple[str, ...] = get_args(DatasetName)
"""The embedded datasets."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("dataset", pa.string()),
        ("class_name", pa.string()),
        ("label", pa.int32()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("image", pa.binary()),
    ]
)
SPLIT_COLUMNS = ("id", "label", "class_name", "group", "split")


def require_known(names: Iterable[str], field: str = "datasets") -> None:
    """Raise ConfigError if a name is not one of DATASETS."""
    for name in names:
        if name not in DATASETS:
            raise ConfigError(f"{field}: {name!r} is unknown; allowed: {', '.join(DATASETS)}")


@dataclass(frozen=True)
class Concept:
    """One class: its name, and whether CLIP may have seen it ("IP") or cannot have ("OOP")."""

    name: str
    group: str


@dataclass(frozen=True)
class Dataset:
    """A dataset artifact, open for reading. The label of a row is the place of its concept."""

    artifact: Artifact
    name: str
    concepts: tuple[Concept, ...]
    hint: str
    """What the classes are, in one word, for prompts ("animal")."""
    template: str
    """Prompt with one {} for the class name."""

    @property
    def split_hash(self) -> str:
        return self.artifact.manifest.extra["split_hash"]

    @cached_property
    def rows(self) -> pa.Table:
        """All rows without their image: id, label, class_name, group, split; in order of id."""
        return self.artifact.read_table("rows", list(SPLIT_COLUMNS))

    def images(self, ids: Sequence[str]) -> list[bytes]:
        """Encoded images of these rows, in this order. Raises KeyError on an unknown id."""
        wanted = pc.field("id").isin(pa.array(ids, pa.string()))
        found = open_table(self.artifact, "rows").to_table(columns=["id", "image"], filter=wanted)
        image = dict(zip(found["id"].to_pylist(), found["image"].to_pylist(), strict=True))
        return [image[row] for row in ids]


def open_dataset(uri: str) -> Dataset:
    """Open a complete dataset artifact. Raises ConfigError if there is none."""
    artifact = open_artifact(uri, "dataset")
    extra = artifact.manifest.extra
    concepts = tuple(Concept(**concept) for concept in extra["concepts"])
    return Dataset(artifact, artifact.manifest.name, concepts, extra["hint"], extra["template"])


def publish_dataset(
    draft: Draft,
    rows: pa.Table,
    concepts: Sequence[Concept],
    *,
    hint: str,
    template: str,
    rejected: int = 0,
) -> Dataset:
    """Write rows (of SCHEMA), split file and manifest of a dataset.

    rejected: images that could not be read and are not among the rows.
    Raises ConfigError if a concept has no row (an empty class).
    """
    present = set(rows["class_name"].to_pylist())
    for concept in concepts:
        if concept.name not in present:
            raise ConfigError(
                f"dataset {draft.manifest.name}: class {concept.name!r} has 0 images; "
                "allowed: at least 1"
            )
    lines = split_lines(rows)
    draft.write_table("rows", rows.select(SCHEMA.names).cast(SCHEMA))
    draft.write_bytes("split.jsonl", lines.encode())
    extra = {
        "concepts": [{"name": concept.name, "group": concept.group} for concept in concepts],
        "hint": hint,
        "template": template,
        "split_hash": digest(lines).hex(),
        "rejected": rejected,
    }
    return open_dataset(draft.publish({"rows": len(rows)}, extra).uri)


def split_lines(rows: pa.Table) -> str:
    """The split as jsonl, one line per row in order of id: id, label, class_name, group, split."""
    ordered = rows.select(SPLIT_COLUMNS).sort_by("id").to_pylist()
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered)
