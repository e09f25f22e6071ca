"""python -m jobs.encode --storage runs --datasets '[runs/dataset/…]' --base_set runs/images/…

Frozen CLIP tokens of datasets' images and of the imagined images of their classes, written once.
"""

import dataclasses
import json
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from actors.features.cost import require_room, warm_up_seconds
from actors.features.encoder import EncoderConfig, backbone, require_names, stored_image
from actors.features.encoding import SCHEMAS, ShardEncoder, ShardPlan
from actors.features.plan import encoding_plan
from actors.features.selection import Selection
from actors.pictures.base_set import BaseSetRows, open_base_set_rows
from cluster.artifacts import Artifact, Draft, draft
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pieces import Pieces, make_pieces
from cluster.pool import Pool
from cluster.progress import already_done, clock, say
from jobs.computing import say_computing
from models.clip import Clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """Whose images are encoded, how, and where the features go."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    datasets: list[str] = unhashed()
    """Artifacts of kind "dataset": paths or URIs."""
    base_set: str | None = unhashed(None)
    """Artifact of kind "images", whose images of the datasets' classes are encoded, too."""
    curation: str | None = unhashed(None)
    """Artifact of kind "curation" of that base set; what it refuses is left out."""
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    select: Selection = dataclasses.field(default_factory=Selection)
    """Which of the images."""
    pool: Pool = unhashed(default_factory=Pool)
    """Encoders."""

    def __post_init__(self) -> None:
        if self.curation and not self.base_set:
            raise ConfigError(f"curation: {self.curation!r}; allowed: none without base_set")


def encode(cfg: EncodeConfig) -> list[Artifact]:
    """Writes a "features" artifact (`actors.features.store`) of each dataset, in their order.

    All that is missing goes through one pool of encoders; its size and time are said before, and
    ConfigError is raised if a local storage has no room for it. A run that was broken off goes on.
    An unreadable image is a rejected row.
    """
    datasets = [open_dataset(uri) for uri in cfg.datasets]
    base_set = open_base_set_rows(cfg.base_set, cfg.curation) if cfg.base_set else None
    clip = backbone(cfg.encoder.backbone)
    for dataset in datasets:  # before hours go into features that no method could name
        require_names(clip, f"dataset {dataset.name}", [c.name for c in dataset.concepts])
    # Always in one order: else two runs with the same datasets could wait for each other's drafts.
    ordered = sorted(datasets, key=lambda dataset: dataset.artifact.content_hash)
    drafts = {d.artifact.uri: _draft(cfg, clip, d, base_set) for d in ordered}
    outs = [drafts[dataset.artifact.uri] for dataset in datasets]
    for dataset, out in zip(datasets, outs, strict=True):
        if out.artifact:
            already_done(f"encode {dataset.name}", out.artifact)
    missing = [(out, d) for out, d in zip(outs, datasets, strict=True) if not out.artifact]
    # Known by all datasets: a run that goes on finds it, whichever of them are done.
    work = {"features": sorted(out.manifest.content_hash for out in outs)}
    features = _encoded(cfg, clip, work, missing, base_set) if missing else {}
    return [out.artifact or features[out.uri] for out in outs]


def _draft(cfg: EncodeConfig, clip: Clip, dataset: Dataset, base_set: BaseSetRows | None) -> Draft:
    content = {"weights": clip.weights_hash}
    inputs = {"dataset": dataset.artifact} | (base_set.inputs if base_set else {})
    return draft(cfg.storage, "features", dataset.name, config=cfg, inputs=inputs, content=content)


def _encoded(
    cfg: EncodeConfig,
    clip: Clip,
    content: dict[str, list[str]],
    missing: list[tuple[Draft, Dataset]],
    base_set: BaseSetRows | None,
) -> dict[str, Artifact]:
    """Writes the shards of all these datasets by one pool, then the index of each.

    content: what the folder is known by that says which shards are there.
    """
    work = draft(cfg.storage, "encoding", "encode", config=cfg, inputs={}, content=content)
    encodings = _planned(cfg, clip, missing, base_set)
    _announce(cfg, encodings)
    pieces = Pieces(work, SCHEMAS)
    make_pieces(
        pieces,
        [shard for encoding in encodings for shard in encoding.shards()],
        partial(ShardEncoder, cfg.encoder, cfg.pool.device),
        cfg.pool,
        title="encode",
        unit="images",
        size=len,
    )
    features = {}
    for encoding, (out, dataset) in zip(encodings, missing, strict=True):
        counts = encoding.write_index(pieces)
        extra = {
            "backbone": clip.backbone,
            "weights_hash": clip.weights_hash,
            "drawn": bool(cfg.select.draws and dataset.labelled),
        }
        features[out.uri] = out.publish(counts, extra | encoding.extra())
    fs, folder = work.filesystem()
    fs.delete_dir(folder)
    return features


def _planned(
    cfg: EncodeConfig,
    clip: Clip,
    missing: list[tuple[Draft, Dataset]],
    base_set: BaseSetRows | None,
) -> list[ShardPlan]:
    encoder, image = cfg.encoder, stored_image(cfg.encoder, clip)
    views = {"train": encoder.views, "val": 1, "test": 1, "imagined": encoder.imagined_views}
    return [
        ShardPlan(out, encoding_plan(dataset, base_set, views, cfg.select), views, image)
        for out, dataset in missing
    ]


def _announce(cfg: EncodeConfig, encodings: list[ShardPlan]) -> None:
    """Says what will be written and how long it may take; ConfigError if there is no room."""
    plans = pa.concat_tables([encoding.plan for encoding in encodings])
    images, views = len(plans), pc.sum(plans["views"]).as_py() or 0
    size = sum(encoding.bytes for encoding in encodings)
    say(f"encode: {images} images in {views} views, {size / 1e9:.3g} GB of features")
    say_computing("encode", [cfg.encoder.precision], cfg.pool)
    require_room([encoding.draft for encoding in encodings], size, cfg.storage)
    if cfg.pool.gpus:
        return  # this process has none to try; the progress line shows the time after one shard
    seconds = warm_up_seconds(cfg.encoder, plans) * views / cfg.pool.workers
    say(
        f"encode: about {clock(seconds)} if {cfg.pool.workers} workers have a free core each, by a "
        "few images tried here; the workers' start and writing come on top"
    )


def main(cfg: EncodeConfig) -> None:
    for artifact in encode(cfg):
        print(json.dumps({"kind": artifact.manifest.kind, "artifact": artifact.uri}))


if __name__ == "__main__":
    run_job(EncodeConfig, main)
