"""python -m jobs.dataset --storage runs --name animals
python -m jobs.dataset --storage runs --name eurosat --root /data/coop
python -m jobs.dataset --storage runs --name garden --folder /data/garden --hint plant
python -m jobs.dataset --storage runs --name finds --images /data/finds --hint plant

Writes one dataset artifact: an embedded dataset, a benchmark set of CoOp or LAION-Beyond, or images
of the user's, in folders train, val, test / class / file or in Parquet, or without classes.
"""

import dataclasses
from collections.abc import Iterator

import pyarrow as pa

from actors.embedded.target_scenes import (
    PER_CLASS,
    RECIPE,
    target_concepts,
    target_hint,
    target_rows,
)
from actors.pictures.sources import DatasetSource, from_listing, from_parquet
from cluster.artifacts import Artifact, draft
from cluster.catalog.benchmarks import BENCHMARKS
from cluster.catalog.dataset import SCHEMA, publish_dataset, require_known
from cluster.catalog.layouts import benchmark_listing, flat_listing, folder_listing
from cluster.catalog.listing import NEEDED
from cluster.catalog.published import ShotLists, read_prompts, read_shot_lists, require_listed
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.progress import already_done, show_progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Which dataset is written, and where."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    name: str = unhashed()  # has a place of its own in the hash
    """An embedded dataset; with `root` a benchmark set (`cluster.catalog.benchmarks`); with
    `folder` or `parquet` a name of your own."""
    root: str | None = unhashed(None)
    """Local folder under which the benchmark sets lie, each in its own folder."""
    oop_split: str | None = unhashed(None)
    """Of a domain of LAION-Beyond that is there more than once: the split file of its OOP classes,
    relative to `root`."""
    ip_split: str | None = unhashed(None)
    """The split file of its IP classes."""
    folder: str | None = unhashed(None)
    """Local folder with train/CLASS/*, val/CLASS/* and test/CLASS/*."""
    parquet: str | None = unhashed(None)
    """Parquet file or folder, local or a URI, with columns image, class_name and split; if there
    are any, group (IP or OOP), path and caption."""
    images: str | None = unhashed(None)
    """Local folder of images without classes, at any depth: all of them are training images, for
    `jobs.discover`."""
    hint: str = unhashed("object")
    """What the classes of `folder` or `parquet` are, for prompts: "a photo of a {}, a type of
    {hint}."."""
    prompts: str | None = unhashed(None)
    """JSON file {class: [prompts]} with prompts for every class, as CaFo has it."""
    shots: str | None = unhashed(None)
    """Folder of published few-shot lists, shot_K-seed_S.jsonl or .json."""


def dataset(cfg: DatasetConfig) -> Artifact:
    """Writes the dataset unless it is there already; images that are missing or broken go into its
    table `rejected`. Raises ConfigError on an unknown name, a source that is not as it should be,
    or a class without a good image to train or test on."""
    given = [n for n in ("root", "folder", "parquet", "images") if getattr(cfg, n) is not None]
    if len(given) > 1:
        raise ConfigError(f"{given[0]}: given together with {given[1]}; allowed: one of them")
    if cfg.name in BENCHMARKS and not given:
        raise ConfigError(f"root: none; allowed: the folder under which {cfg.name} lies")
    if not given:
        return _embedded(cfg)
    if cfg.root is not None and cfg.name not in BENCHMARKS:
        raise ConfigError(f"name: {cfg.name!r}; allowed with root: {', '.join(BENCHMARKS)}")
    if cfg.shots is not None and cfg.parquet is not None:
        raise ConfigError(f"shots: {cfg.shots!r}; allowed with root or folder")
    return _from_source(cfg)


def _embedded(cfg: DatasetConfig) -> Artifact:
    require_known([cfg.name], field="name")
    content = {"recipe": RECIPE, "per_class": PER_CLASS, "columns": SCHEMA.names}
    out = draft(cfg.storage, "dataset", cfg.name, config=cfg, inputs={}, content=content)
    if out.artifact:
        already_done(f"dataset {cfg.name}", out.artifact)
        return out.artifact
    rows = target_rows(cfg.name)
    hint = target_hint(cfg.name)
    with show_progress(f"dataset {cfg.name}", len(rows), "images") as progress:
        made = publish_dataset(
            out, rows, target_concepts(cfg.name), hint=hint, template=_template(hint)
        )
        progress.advance(len(rows))
    return made.artifact


def _from_source(cfg: DatasetConfig) -> Artifact:
    shots = read_shot_lists(cfg.shots) if cfg.shots else {}
    source = _source(cfg, shots)
    hint, template = cfg.hint, _template(cfg.hint)
    if cfg.root is not None:
        hint, template = BENCHMARKS[cfg.name].hint, BENCHMARKS[cfg.name].template
    names = [concept.name for concept in source.concepts]
    prompts = read_prompts(cfg.prompts, names) if cfg.prompts else []
    content = {
        "images": source.content_hash,
        "hint": hint,
        "template": template,
        "prompts": prompts,
        "shots": shots,
    }
    out = draft(cfg.storage, "dataset", cfg.name, config=cfg, inputs={}, content=content)
    if out.artifact:
        already_done(f"dataset {cfg.name}", out.artifact)
        return out.artifact
    with show_progress(f"dataset {cfg.name}", source.images, "images") as progress:

        def parts() -> Iterator[pa.Table]:
            for part in source.parts():
                yield part
                progress.advance(len(part))

        made = publish_dataset(
            out,
            parts(),
            source.concepts,
            hint=hint,
            template=template,
            needs=() if cfg.images is not None else NEEDED,
            prompts=prompts,
            shots=shots,
        )
    return made.artifact


def _source(cfg: DatasetConfig, shots: ShotLists) -> DatasetSource:
    if cfg.parquet is not None:
        return from_parquet(cfg.name, cfg.parquet)
    if cfg.images is not None:
        listing = flat_listing(cfg.images)
    elif cfg.folder is not None:
        listing = folder_listing(cfg.name, cfg.folder)
    else:
        kept = frozenset(file for said in shots.values() for file in said["train"])
        splits = {"OOP": cfg.oop_split, "IP": cfg.ip_split}
        listing = benchmark_listing(cfg.name, str(cfg.root), splits, kept)
    require_listed(shots, listing)
    return from_listing(cfg.name, listing)


def _template(hint: str) -> str:
    return f"a photo of a {{}}, a type of {hint}."


if __name__ == "__main__":
    run_job(DatasetConfig, dataset)
