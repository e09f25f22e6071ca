"""python -m jobs.dataset --storage runs --name animals
python -m jobs.dataset --storage runs --name eurosat --root /data/coop
python -m jobs.dataset --storage runs --name garden --folder /data/garden --hint plant
python -m jobs.dataset --storage runs --name finds --images /data/finds --hint plant

Writes one dataset artifact: an embedded dataset, a benchmark set of CoOp or LAION-Beyond, or images
of the user's, in folders train, val, test / class / file or in Parquet, or without classes.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import pyarrow as pa

from actors.embedded.concepts import DIGITS, require_known
from actors.embedded.sprites import Artist
from actors.embedded.target_scenes import (
    PER_CLASS,
    TWEMOJI,
    target_concepts,
    target_count,
    target_hint,
    target_recipe,
    target_rows,
)
from actors.pictures.sources import DatasetSource, from_listing, from_parquet, from_rows
from cluster.artifacts import Artifact, draft
from cluster.catalog.benchmarks import BENCHMARKS, LAION_BEYOND
from cluster.catalog.closing import closing_lines
from cluster.catalog.dataset import Concept, Dataset, hint_template, open_dataset, publish_dataset
from cluster.catalog.folders import flat_listing, folder_listing
from cluster.catalog.layouts import benchmark_listing
from cluster.catalog.listing import NEEDED, Listing
from cluster.catalog.missing import require_files
from cluster.catalog.published import (
    ShotLists,
    endings,
    in_dataset,
    read_prompts,
    read_shot_lists,
    unread_beside_lists,
)
from cluster.content import canonical, unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.progress import already_done, say, show_progress
from cluster.rows import digest
from cluster.unions import only_one

PLACES = ("root", "folder", "parquet", "images")
"""Fields of which one says where the images are; none: they are embedded."""
CLIP_TOKENS = 75
"""Tokens of a text that CLIP reads, besides the one at its start and the one at its end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """Which dataset, and where its images are."""

    # The name has a place of its own in the hash, and so has all that is read.
    name: str = unhashed()
    """An embedded dataset; with `root` a benchmark set (`cluster.catalog.benchmarks`); with
    `folder` or `parquet` a name of your own."""
    root: str | None = unhashed(None)
    """Local folder under which the benchmark sets lie, each in its own folder."""
    oop_split: str | None = unhashed(None)
    """Of a domain of LAION-Beyond that is there more than once: the split file of its OOP classes,
    relative to `root`."""
    ip_split: str | None = unhashed(None)
    """The split file of its IP classes."""
    side: Literal["OOP", "IP"] | None = unhashed(None)
    """Of a domain of LAION-Beyond: one side alone, where no other was downloaded; default: both."""
    folder: str | None = unhashed(None)
    """Local folder with train/CLASS/*, val/CLASS/* and test/CLASS/*; val may be called validation,
    valid or dev."""
    parquet: str | None = unhashed(None)
    """Parquet file or folder, local or a URI, with columns image, class_name and split; if there
    are any, group (IP or OOP), path and caption."""
    images: str | None = unhashed(None)
    """Local folder of images without classes, at any depth: all of them are training images, for
    `jobs.discover`."""
    artist: Artist = unhashed(TWEMOJI)
    """Of an embedded dataset: who drew what is on its pictures."""
    hint: str = unhashed("object")
    """What the classes of `folder` or `parquet` are, for prompts: "a photo of a {}, a type of
    {hint}."."""
    prompts: str | None = unhashed(None)
    """JSON file {class: [prompts]} with prompts for every class, as CaFo has it."""
    shots: str | None = unhashed(None)
    """Folder of published few-shot lists, shot_K-seed_S.jsonl or .json."""

    def __post_init__(self) -> None:
        place = only_one(self, PLACES)
        if place is None and self.name in BENCHMARKS:
            raise ConfigError(f"root: none; allowed: the folder under which {self.name} lies")
        if place is None:
            require_known([self.name], field="name")
        if self.artist != TWEMOJI and (place is not None or self.name == DIGITS):
            raise ConfigError(
                f"artist: {self.artist!r}; allowed for an embedded dataset of emoji alone"
            )
        if place == "root" and self.name not in BENCHMARKS:
            raise ConfigError(f"name: {self.name!r}; allowed with root: {', '.join(BENCHMARKS)}")
        if self.side is not None and not (place == "root" and self.name in LAION_BEYOND):
            raise ConfigError(f"side: {self.side!r}; allowed for a domain of LAION-Beyond alone")
        if self.shots is not None and place in (None, "parquet"):
            raise ConfigError(f"shots: {self.shots!r}; allowed with root or folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(DatasetSpec):
    """Which dataset is written, and where."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""


def dataset(cfg: DatasetConfig) -> Artifact:
    """Writes the dataset unless it is there already, and says what is in it.

    Images that are missing or broken, and what else is not read of a folder, go into its table
    `rejected`. Raises ConfigError on a source that is not as it should be, or a class without a
    good image to train or test on.
    """
    artifact = _written(cfg)
    written = open_dataset(artifact.uri)
    for line in [*closing_lines(written), *_long_names(written)]:
        say(line)
    return artifact


def _long_names(dataset: Dataset) -> Iterator[str]:
    """A line for each class name that is longer than CLIP reads, which later jobs refuse."""
    for label, concept in enumerate(dataset.concepts):
        if len(concept.name.encode()) <= CLIP_TOKENS:  # a token is a byte at least
            continue
        from open_clip.tokenizer import (
            SimpleTokenizer,
        )  # here: it takes seconds, few names are long

        tokens = len(SimpleTokenizer().encode(concept.name))
        if tokens > CLIP_TOKENS:
            yield (
                f"dataset {dataset.name}: the name of class {label} has {tokens} tokens, and CLIP "
                f"reads {CLIP_TOKENS}: {concept.name[:60]!r}…"
            )


def _written(cfg: DatasetConfig) -> Artifact:
    opened = OPEN[only_one(cfg, PLACES)](cfg, read_shot_lists(cfg.shots) if cfg.shots else {})
    source, shots, title = opened.source, opened.shots, f"dataset {cfg.name}"
    names = [concept.name for concept in source.concepts]
    prompts = read_prompts(cfg.prompts, names) if cfg.prompts else []
    content = {
        "images": source.content_hash,
        "hint": opened.hint,
        "template": opened.template,
        "prompts": prompts,
        "shots": shots,
    }
    out = draft(cfg.storage, "dataset", cfg.name, config=cfg, inputs={}, content=content)
    if out.artifact:
        already_done(title, out.artifact)
        return out.artifact
    with show_progress(title, source.images, "images") as progress:

        def parts() -> Iterator[pa.Table]:
            for part in source.parts():
                yield part
                progress.advance(len(part) - part["id"].null_count)  # what is no image has none

        return publish_dataset(
            out,
            parts(),
            source.concepts,
            hint=opened.hint,
            template=opened.template,
            needs=opened.needs,
            prompts=prompts,
            shots=shots,
        ).artifact


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A source of images, and how prompts speak of its classes."""

    source: DatasetSource
    hint: str
    template: str
    shots: ShotLists
    """By the paths that the source has."""
    needs: Sequence[str] = NEEDED
    """Splits in which every class must have a good image."""


def _embedded(spec: DatasetSpec, shots: ShotLists) -> _Opened:
    concepts = [Concept(*concept) for concept in target_concepts(spec.name)]
    recipe = target_recipe(spec.artist)
    content_hash = digest(recipe, canonical(PER_CLASS), *map(str, concepts)).hex()
    count = target_count(spec.name)
    rows = from_rows(concepts, content_hash, count, lambda: target_rows(spec.name, spec.artist))
    return _hinted(rows, target_hint(spec.name), shots)


def _benchmark(spec: DatasetSpec, shots: ShotLists) -> _Opened:
    listed = frozenset(e for of in shots.values() for file in of["train"] for e in endings(file))
    sides = {"OOP": spec.oop_split, "IP": spec.ip_split}
    splits = {side: split for side, split in sides.items() if spec.side in (None, side)}
    listing = benchmark_listing(spec.name, str(spec.root), splits, listed)
    benchmark = BENCHMARKS[spec.name]
    source, located = _listed(spec, listing, shots)
    return _Opened(source, benchmark.hint, benchmark.template, located, listing.needs)


def _folder(spec: DatasetSpec, shots: ShotLists) -> _Opened:
    listing = folder_listing(spec.name, str(spec.folder))
    source, located = _listed(spec, listing, shots)
    return _hinted(source, spec.hint, located)


def _parquet(spec: DatasetSpec, shots: ShotLists) -> _Opened:
    return _hinted(from_parquet(spec.name, str(spec.parquet)), spec.hint, shots)


def _unlabelled(spec: DatasetSpec, shots: ShotLists) -> _Opened:
    source, located = _listed(spec, flat_listing(str(spec.images)), shots)
    return dataclasses.replace(_hinted(source, spec.hint, located), needs=())


OPEN: dict[str | None, Callable[[DatasetSpec, ShotLists], _Opened]] = {
    None: _embedded,
    "root": _benchmark,
    "folder": _folder,
    "parquet": _parquet,
    "images": _unlabelled,
}
"""Field that says where the images are (none: they are embedded) to what opens them."""


def _listed(
    spec: DatasetSpec, listing: Listing, shots: ShotLists
) -> tuple[DatasetSource, ShotLists]:
    """The source, and the lists by its paths."""
    located = in_dataset(shots, listing)
    if spec.root is not None:  # what lies in folders is there
        require_files(spec.name, listing, "root")
    if spec.shots is not None:
        unread = {**listing.unread, **unread_beside_lists(spec.shots)}
        listing = dataclasses.replace(listing, unread=unread)
    return from_listing(spec.name, listing), located


def _hinted(source: DatasetSource, hint: str, shots: ShotLists) -> _Opened:
    return _Opened(source, hint, hint_template(hint), shots)


if __name__ == "__main__":
    run_job(DatasetConfig, dataset)
