"""Datasets as artifacts: rows of real images with class, group (IP or OOP) and split."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.artifacts import Artifact, Draft, open_artifact
from cluster.errors import ConfigError
from cluster.rows import digest

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("dataset", pa.string()),
        ("class_name", pa.string()),
        ("label", pa.int32()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("image", pa.binary()),
        ("caption", pa.string()),
        ("path", pa.string()),
        ("order", pa.int32()),
    ]
)
"""Columns of a dataset's rows. Null where there is none: caption (what a person wrote about the
image), path (in the source), and order (line of its split in the source's split file)."""
SPLIT_COLUMNS = ("id", "label", "class_name", "group", "split", "path")
REJECTED_SCHEMA = pa.schema(
    [SCHEMA.field(name) for name in (*SPLIT_COLUMNS[1:], "order")] + [("reason", pa.string())]
)
"""Columns of the images that are not among the rows, and why."""
FILE_BYTES = 512 << 20
"""Size in memory at which the next Parquet file is begun."""
PROMPTS, SHOTS = "prompts.json", "shots.json"
_SHOTS = re.compile(r"[0-9]{1,9}-[0-9]{1,9}")


@dataclass(frozen=True)
class Concept:
    """One class: its name, and whether CLIP may have seen it ("IP") or cannot have ("OOP")."""

    name: str
    group: str


UNLABELLED = (Concept("(unlabelled)", "OOP"),)
"""The concepts of a dataset whose images have no classes: one that stands for all."""


def hint_template(hint: str) -> str:
    """The hand prompt of a dataset that brings none; hint: what its classes are."""
    return f"a photo of a {{}}, a type of {hint}."


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _are_concepts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(concept, dict)
        and concept.keys() == {"name", "group"}
        and _is_texts(list(concept.values()))
        for concept in value
    )


def _are_shots(value: Any) -> bool:
    """Names of shot lists: shots and seed, as in "16-1"."""
    return _is_texts(value) and all(_SHOTS.fullmatch(name) for name in value)


_FACTS: Mapping[str, Callable[[Any], bool]] = {
    "concepts": _are_concepts,
    "hint": lambda value: isinstance(value, str),
    "template": lambda value: isinstance(value, str),
    "split_hash": lambda value: isinstance(value, str),
    "prompts": lambda value: isinstance(value, bool),
    "shots": _are_shots,
}
"""What a dataset's manifest says besides, and what may stand there."""


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
    def labelled(self) -> bool:
        """Whether its images have classes."""
        return self.concepts != UNLABELLED

    @property
    def split_hash(self) -> str:
        return self.artifact.manifest.extra["split_hash"]

    @cached_property
    def rows(self) -> pa.Table:
        """All rows without image and caption: SPLIT_COLUMNS and `order`; in order of id."""
        return self.artifact.read_table("rows", [*SPLIT_COLUMNS, "order"])

    @cached_property
    def rejected(self) -> pa.Table:
        """Images that are not among the rows (REJECTED_SCHEMA)."""
        return self.artifact.read_table("rejected")

    def shot_list(self, shots: int, seed: int) -> dict[str, list[str]]:
        """Paths by split of the published list for these shots and this seed.

        Raises ConfigError if the dataset came without it.
        """
        name = f"{shots}-{seed}"
        known = self.artifact.manifest.extra["shots"]
        if name not in known:
            raise ConfigError(
                f"shot_rule: 'published', but dataset {self.name!r} has no list of {shots} shots "
                f"with seed {seed}; allowed (shots-seed): {', '.join(known) or 'none'}"
            )
        lists = self.artifact.read_json(SHOTS)
        shot_list = lists.get(name) if isinstance(lists, dict) else None
        if not isinstance(shot_list, dict) or not all(map(_is_texts, shot_list.values())):
            raise self._damaged(SHOTS, f"no list {name}")
        return shot_list

    @cached_property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """Prompts of each class in order of label; empty if the dataset came without any."""
        if not self.artifact.manifest.extra["prompts"]:
            return ()
        prompts = self.artifact.read_json(PROMPTS)
        if not isinstance(prompts, list) or not all(map(_is_texts, prompts)):
            raise self._damaged(PROMPTS, "no lists of texts")
        return tuple(map(tuple, prompts))

    def _damaged(self, file: str, what: str) -> ConfigError:
        place = self.artifact.file(file)
        return ConfigError(f"artifact: {place!r} has {what}; allowed: as it was published")

    def images(self, ids: Sequence[str]) -> list[bytes]:
        """Encoded images of these rows, in this order. Raises KeyError on an unknown id."""
        wanted = pc.field("id").isin(pa.array(ids, pa.string()))
        table = self.artifact.open_table("rows")
        with self.artifact.damage_told("rows"):
            rows = table.to_table(columns=["id", "image"], filter=wanted)
        image = dict(zip(rows["id"].to_pylist(), rows["image"].to_pylist(), strict=True))
        return [image[row] for row in ids]


def open_dataset(uri: str) -> Dataset:
    """Opens a complete dataset artifact. Raises ConfigError if there is none, or its manifest does
    not say what a dataset's has to."""
    artifact = open_artifact(uri, "dataset")
    extra = artifact.manifest.extra
    for name, is_good in _FACTS.items():
        if name not in extra or not is_good(extra[name]):
            value = f"{extra.get(name, 'nothing')!r:.60}"
            raise ConfigError(
                f"dataset: the manifest of {artifact.uri!r} says of {name} {value}; allowed: as it "
                "was published"
            )
    concepts = tuple(Concept(**concept) for concept in extra["concepts"])
    return Dataset(artifact, artifact.manifest.name, concepts, extra["hint"], extra["template"])


def publish_dataset(
    draft: Draft,
    rows: pa.Table | Iterable[pa.Table],
    concepts: Sequence[Concept],
    *,
    hint: str,
    template: str,
    needs: Sequence[str] = (),
    prompts: Sequence[Sequence[str]] = (),
    shots: Mapping[str, Any] | None = None,
) -> Dataset:
    """Writes rows, split file and manifest of a dataset.

    rows: of SCHEMA, or SCHEMA and `reason`, which is null for a good row; a table, or tables that
    are written as they come. needs: splits in which every class must have a good row. prompts: of
    each class, or none. shots: published lists (`cluster.catalog.published`).
    Raises ConfigError, and leaves nothing behind, if a concept has no row (an empty class).
    """
    good, rejected = _write_rows(draft, [rows] if isinstance(rows, pa.Table) else rows)
    try:
        _require_rows(draft.manifest.name, good, concepts, needs)
    except ConfigError:
        fs, folder = draft.filesystem()
        fs.delete_dir(folder)
        raise
    lines = split_lines(good)
    draft.write_table("rejected", rejected)
    draft.write_bytes("split.jsonl", lines.encode())
    if prompts:
        draft.write_json(PROMPTS, prompts)
    if shots:
        draft.write_json(SHOTS, shots)
    extra = {
        "concepts": [{"name": concept.name, "group": concept.group} for concept in concepts],
        "hint": hint,
        "template": template,
        "split_hash": digest(lines).hex(),
        "prompts": bool(prompts),
        "shots": sorted(shots or ()),
    }
    counts = {"rows": len(good), "rejected": len(rejected)}
    return open_dataset(draft.publish(counts, extra).uri)


def split_lines(rows: pa.Table) -> str:
    """The split as jsonl, one line per row in order of id: SPLIT_COLUMNS, `path` if it has one."""
    ordered = rows.select(SPLIT_COLUMNS).sort_by("id")
    lines = []
    for batch in ordered.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            if row["path"] is None:
                del row["path"]
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


def _write_rows(draft: Draft, parts: Iterable[pa.Table]) -> tuple[pa.Table, pa.Table]:
    """Writes the good rows, a row group per part, some files.

    Returns them without images, and the refused ones (REJECTED_SCHEMA).
    """
    accepted, rejected = (
        [SCHEMA.empty_table().select(SPLIT_COLUMNS)],
        [REJECTED_SCHEMA.empty_table()],
    )

    def good() -> Iterator[pa.Table]:
        for part in parts:
            if "reason" in part.schema.names:
                bad = pc.is_valid(part["reason"])
                rejected.append(part.filter(bad).select(REJECTED_SCHEMA.names))
                part = part.filter(pc.invert(bad))
            if len(part):
                accepted.append(part.select(SPLIT_COLUMNS))
                yield part.select(SCHEMA.names).cast(SCHEMA)

    fs, folder = draft.filesystem()
    fs.delete_dir_contents(f"{folder}/rows", missing_dir_ok=True)  # of a run that was broken off
    good_parts = good()
    for number in count():
        first = next(good_parts, None)
        if first is None:
            break
        name, size = f"rows/part-{number}.parquet", 0
        with draft.open_file(name) as stream, pq.ParquetWriter(stream, SCHEMA) as file:
            for part in chain([first], good_parts):
                file.write_table(part)
                size += part.nbytes
                if size >= FILE_BYTES:
                    break
    return pa.concat_tables(accepted), pa.concat_tables(rejected)


def _require_rows(
    dataset: str, rows: pa.Table, concepts: Sequence[Concept], needs: Sequence[str]
) -> None:
    pairs = rows.group_by(["label", "split"]).aggregate([]).to_pylist()
    splits: dict[int, set[str]] = {}
    for row in pairs:
        splits.setdefault(row["label"], set()).add(row["split"])
    for label, concept in enumerate(concepts):
        if label not in splits:
            raise ConfigError(
                f"dataset {dataset}: class {concept.name!r} has 0 images; allowed: at least 1"
            )
        for split in needs:
            if split not in splits[label]:
                raise ConfigError(
                    f"dataset {dataset}: class {concept.name!r} has 0 readable images in "
                    f"{split!r}; allowed: at least 1"
                )
