"""python -m jobs.encode --storage runs --datasets '[runs/dataset/…]' --base_set runs/images/…

Frozen CLIP tokens of datasets' images and of the imagined images of their classes, written once.
"""

import dataclasses
import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jsonargparse.typing import NonNegativeFloat, PositiveInt

from actors.encoder import Encoder, EncoderConfig, backbone
from actors.feature_store import INDEX_COLUMNS, TOKENS, write_features
from cluster.artifacts import Artifact, Draft, draft, open_artifact, open_table
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.job import run_job
from cluster.progress import already_done
from cluster.row_pipeline import make_rows
from models.clip import Clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """Whose images are encoded, how, and where the features go."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    datasets: list[str]
    """Artifacts of kind "dataset": paths or URIs."""
    base_set: str | None = None
    """Artifact of kind "images", whose images of the datasets' classes are encoded, too."""
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    workers: PositiveInt = 2
    """Encoders at most; Ray starts them as there is work and room."""
    gpus_per_worker: NonNegativeFloat = 0.0
    """Share of a GPU that each encoder is given."""


def encode(cfg: EncodeConfig) -> list[Artifact]:
    """Writes a "features" artifact (`actors.feature_store`) of each dataset, in their order.

    All that is missing goes through one pool of encoders. An unreadable image is a rejected row.
    """
    datasets = [open_dataset(uri) for uri in cfg.datasets]
    base_set = open_artifact(cfg.base_set, "images") if cfg.base_set else None
    clip = backbone(cfg.encoder.backbone)
    outs = [_draft(cfg, clip, dataset, base_set) for dataset in datasets]
    for dataset, out in zip(datasets, outs, strict=True):
        if out.artifact:
            already_done(f"encode {dataset.name}", out.artifact)
    missing = [(out, d) for out, d in zip(outs, datasets, strict=True) if not out.artifact]
    made = _encoded(cfg, clip, missing, base_set) if missing else {}
    return [out.artifact or made[out.uri] for out in outs]


def _draft(cfg: EncodeConfig, clip: Clip, dataset: Dataset, base_set: Artifact | None) -> Draft:
    content = dataclasses.asdict(cfg.encoder) | {"weights": clip.weights_hash}
    content.pop("batch_size")
    inputs = {"dataset": dataset.artifact} | ({"base_set": base_set} if base_set else {})
    return draft(cfg.storage, "features", dataset.name, content=content, config=cfg, inputs=inputs)


def _encoded(
    cfg: EncodeConfig, clip: Clip, missing: list[tuple[Draft, Dataset]], base_set: Artifact | None
) -> dict[str, Artifact]:
    """Encodes every row once into a working folder, then puts each dataset's rows in order."""
    encoder = cfg.encoder
    views = {"train": encoder.views, "val": 1, "test": 1, "imagined": encoder.imagined_views}
    plans = [(out, encoding_plan(dataset, base_set, views)) for out, dataset in missing]
    content = {"features": sorted(out.manifest.content_hash for out, _ in missing)}
    work = draft(cfg.storage, "tokens", "encode", content=content, config=cfg, inputs={})
    make_rows(
        work,
        TOKENS,
        pa.concat_tables([plan for _, plan in plans]),
        partial(Encoder, encoder),
        title="encode",
        unit="images",
        block_rows=256,
        workers=cfg.workers,
        gpus_per_worker=cfg.gpus_per_worker,
    )
    made = {}
    for out, plan in plans:
        tokens = Artifact(work.uri, work.manifest)
        rows = write_features(out, tokens, plan, views, (clip.num_tokens, clip.embed_dim))
        extra = {"backbone": clip.backbone, "weights_hash": clip.weights_hash}
        made[out.uri] = out.publish(rows, extra)
    fs, folder = work.filesystem()
    fs.delete_dir(folder)  # all of it is in the arrays now
    return made


def encoding_plan(dataset: Dataset, base_set: Artifact | None, views: dict[str, int]) -> pa.Table:
    """One row per image: where it is, how many views of it, and what the index says of it."""
    label = {concept.name: i for i, concept in enumerate(dataset.concepts)}
    real = _unique_rows(dataset.artifact, ["id", "class_name", "split"], None)
    rows = [row | {"caption": ""} for row in real]
    if base_set:
        fine = (pc.field("dataset") == dataset.name) & (pc.field("reason") == "")
        imagined = _unique_rows(base_set, ["id", "class_name", "caption"], fine)
        rows += [row | {"split": "imagined"} for row in imagined if row["class_name"] in label]
    for row in rows:
        row |= {"label": label[row["class_name"]], "views": views[row["split"]]}
    schema = pa.schema(
        [(name, pa.int32() if name in ("label", "views", "place") else pa.string())
         for name in (*INDEX_COLUMNS, "source", "kind", "place", "views")]
    )  # fmt: skip
    return pa.Table.from_pylist(rows, schema)


def _unique_rows(artifact: Artifact, columns: list[str], which: pc.Expression | None) -> list[dict]:
    """Rows in order of id, none twice, with `source`, `kind` and `place` of their image."""
    table = open_table(artifact, "rows")
    rows = table.to_table(columns=[*columns, *(["dataset", "reason"] if which is not None else [])])
    rows = rows.append_column("place", pa.array(np.arange(len(rows), dtype=np.int32)))
    rows = rows if which is None else rows.filter(which)
    _, first = np.unique(np.array(rows["id"].to_pylist(), dtype=str), return_index=True)
    place = {"source": artifact.uri, "kind": artifact.manifest.kind}
    return [row | place for row in rows.select([*columns, "place"]).take(first).to_pylist()]


def main(cfg: EncodeConfig) -> None:
    for features in encode(cfg):
        print(json.dumps({"kind": features.manifest.kind, "artifact": features.uri}))


if __name__ == "__main__":
    run_job(EncodeConfig, main)
