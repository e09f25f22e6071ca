"""Datasets that this process reads itself: an embedded one, or a folder of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from actors.embedded.concepts import require_known
from actors.embedded.target_scenes import target_concepts, target_hint, target_rows
from actors.pictures.sources import from_listing
from cluster.catalog.dataset import (
    REJECTED_SCHEMA,
    SCHEMA,
    SPLIT_COLUMNS,
    Concept,
    hint_template,
    split_lines,
)
from cluster.catalog.folders import flat_listing, folder_listing
from cluster.catalog.listing import Listing, require_images
from cluster.errors import ConfigError
from cluster.rows import digest


@dataclass(frozen=True)
class LocalDataset:
    """Images with classes and splits, as `cluster.catalog.dataset.Dataset`, but no artifact.

    Rows have the ids that `jobs.dataset` gives to a dataset of the same name, so the same shots are
    drawn from them. Images are read when they are asked for.
    """

    name: str
    concepts: tuple[Concept, ...]
    """Classes in order of label."""
    hint: str
    """What the classes are, for prompts ("animal")."""
    template: str
    """Prompt with one {} for the class name."""
    rows: pa.Table
    """SPLIT_COLUMNS and `order` of every good image, in order of id."""
    rejected: pa.Table
    """Images that cannot be used (REJECTED_SCHEMA), with the reason."""
    read: Callable[[str], bytes]
    """An id to its encoded image."""

    @cached_property
    def split_hash(self) -> str:
        """32 hex digits over all good rows; shots depend on it."""
        return digest(split_lines(self.rows)).hex()

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """Of each class; none here."""
        return ()

    def images(self, ids: Sequence[str]) -> list[bytes]:
        """Encoded images of these rows, in this order. Raises KeyError on an unknown id."""
        return [self.read(row) for row in ids]

    def shot_list(self, shots: int, seed: int) -> Mapping[str, list[str]]:
        """Raises ConfigError: published lists come with artifacts of `jobs.dataset`."""
        raise ConfigError(
            f"shot_rule: 'published', but dataset {self.name!r} has no lists; allowed: hash"
        )


def embedded(name: str) -> LocalDataset:
    """One of the embedded datasets ("animals", …). Raises ConfigError on an unknown name."""
    require_known([name], field="name")
    rows, hint = pa.Table.from_pylist(list(target_rows(name)), SCHEMA), target_hint(name)
    image = dict(zip(rows["id"].to_pylist(), rows["image"].to_pylist(), strict=True))
    return LocalDataset(
        name,
        tuple(Concept(*concept) for concept in target_concepts(name)),
        hint,
        hint_template(hint),
        rows.select([*SPLIT_COLUMNS, "order"]).sort_by("id"),
        REJECTED_SCHEMA.empty_table(),
        image.__getitem__,
    )


def folder(path: str, *, name: str = "", hint: str = "object") -> LocalDataset:
    """Images in train/CLASS/*, val/CLASS/* and test/CLASS/*; classnames.txt may name the classes.

    name: default the folder's own; part of every image's id. hint: what the classes are, for
    prompts: "a photo of a {}, a type of {hint}.". Every file is opened once; what is no image goes
    into `rejected`. Raises ConfigError if a split's folder is missing, or a class has no readable
    image to train or test on.
    """
    name = name or Path(path).resolve().name
    dataset = _from_files(name, folder_listing(name, path), hint)
    there = dataset.rows.group_by(["label", "split"]).aggregate([])
    pairs = zip(there["label"].to_pylist(), there["split"].to_pylist(), strict=True)
    require_images(name, dataset.concepts, set(pairs))
    return dataset


def unlabelled(path: str, *, name: str = "", hint: str = "object") -> LocalDataset:
    """All images below a folder, at any depth, as training images without a class.

    name, hint: as for `folder`. Raises ConfigError if there is no file.
    """
    return _from_files(name or Path(path).resolve().name, flat_listing(path), hint)


def _from_files(name: str, listing: Listing, hint: str) -> LocalDataset:
    columns = [*SPLIT_COLUMNS, "order"]
    good, rejected = [], [REJECTED_SCHEMA.empty_table()]
    for part in from_listing(name, listing).parts():  # with pictures, so one at a time
        bad = pc.is_valid(part["reason"])
        good.append(part.filter(pc.invert(bad)).select(columns))
        rejected.append(part.filter(bad).select(REJECTED_SCHEMA.names))
    rows = pa.concat_tables(good).sort_by("id")
    path = dict(zip(rows["id"].to_pylist(), rows["path"].to_pylist(), strict=True))
    return LocalDataset(
        name,
        listing.concepts,
        hint,
        hint_template(hint),
        rows,
        pa.concat_tables(rejected),
        lambda row: (listing.root / path[row]).read_bytes(),
    )
