"""A dataset of six classes with images, and features of it that need no forward pass."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from actors.features.encoding import ShardPlan
from actors.features.plan import INDEX_COLUMNS
from actors.features.shards import shard_file
from actors.pictures.codec import png_bytes
from actors.search.cells import MethodConfig
from actors.search.spaces import Range
from cluster.artifacts import Artifact, draft
from cluster.catalog.dataset import SCHEMA, Concept, Dataset, publish_dataset
from cluster.rows import row_id, row_rng
from models.backbones import load_clip
from models.clip import Clip

CONCEPTS = tuple(
    Concept(name, group)
    for group, names in {
        "IP": ("cat", "dog", "../../x"),
        "OOP": ("okapi", "a/b", "quokka"),
    }.items()
    for name in names
)
IMAGES = {"train": 8, "val": 4, "test": 4}
VIEWS = {"train": 2, "val": 1, "test": 1, "imagined": 1}
SMALL_ADAPTER = {"depth": 1, "inner": 16, "heads": 1}
METHODS = {
    "zero-shot": MethodConfig(method="zero_shot", shots=[0]),
    "linear-probe": MethodConfig(method="linear_probe", shots=[4]),
    "imaginefsl-scratch": MethodConfig(
        method="imaginefsl",
        shots=[1, 4],
        hyper={"steps": 4, "batch_real": 8, "batch_imagined": 4, "adapter": SMALL_ADAPTER},
        space={"adapter_lr": Range(low=1e-4, high=1e-1, log=True)},
        trials=5,
    ),
    "fsnl": MethodConfig(
        method="fsnl",
        shots=[4],
        concepts="OOP",
        hyper={"epochs": 4},
        space={"lr": Range(low=1e-2, high=1.0, log=True)},
        trials=2,
    ),
}


def picture(row: str) -> bytes:
    """PNG of 40 x 50 coloured squares."""
    squares = row_rng(row).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return png_bytes(Image.fromarray(squares).resize((40, 50), Image.Resampling.NEAREST))


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def make_dataset(
    storage: Path,
    images: dict[str, int] = IMAGES,
    bad: int = 0,
    concepts: tuple[Concept, ...] = CONCEPTS,
    name: str = "toys",
) -> Dataset:
    """bad: training images of the first class that are cut off in the middle."""
    rows = []
    for label, concept in enumerate(concepts):
        twins = sum(other.name == concept.name for other in concepts[:label])
        for split, count in images.items():
            for index in range(count):
                row = row_id(name, concept.name, index + 1000 * twins, 0, split)
                broken = label == 0 and split == "train" and index < bad
                rows.append(
                    {
                        "id": row,
                        "dataset": name,
                        "class_name": concept.name,
                        "label": label,
                        "group": concept.group,
                        "split": split,
                        "image": truncated(picture(row)) if broken else picture(row),
                    }
                )
    content = {"images": images, "bad": bad, "concepts": [(c.name, c.group) for c in concepts]}
    made = draft(str(storage), "dataset", name, content=content, config=None, inputs={})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return publish_dataset(
        made, table, concepts, hint="toy", template="a photo of a {}, a type of toy."
    )


def make_base_set(storage: Path, per_class: int = 2) -> Artifact:
    """Imagined images; of each class the last one is refused, and one dataset is another's."""
    rows = []
    for dataset in ("toys", "others"):
        for label, concept in enumerate(CONCEPTS):
            for index in range(per_class + 1):
                row = row_id(dataset, concept.name, index, 0, "imagined")
                refused = index == per_class
                rows.append(
                    {
                        "id": row,
                        "dataset": dataset,
                        "class_name": concept.name,
                        "label": label,
                        "group": concept.group,
                        "index": index,
                        "view": 0,
                        "caption": f"a {concept.name} at night",
                        "image": b"" if refused else picture(row),
                        "reason": "no sprite" if refused else "",
                    }
                )
    made = draft(str(storage), "images", "toys", content={}, config=None, inputs={})
    made.write_table("rows", pa.Table.from_pylist(rows))
    return made.publish({"rows": len(rows)})


def make_features(
    storage: Path, dataset: Dataset, clip: Clip | None = None, base_set: Artifact | None = None
) -> Artifact:
    """Features as `jobs.encode` writes them, of tokens drawn around one direction per class.

    base_set: whose images are the imagined ones; without it they are nobody's.
    """
    clip = clip or load_clip("tiny")
    made = draft(
        str(storage),
        "features",
        "toys",
        content={},
        config=None,
        inputs={"dataset": dataset.artifact} | ({"base_set": base_set} if base_set else {}),
    )
    rows = dataset.rows.to_pylist()
    imagined = [{**row, "id": f"imagined {row['id']}"} for row in rows if row["split"] == "val"]
    if base_set:
        all_of_it = base_set.read_table("rows").to_pylist()
        imagined = [r for r in all_of_it if r["dataset"] == "toys" and not r["reason"]]
    rows += [row | {"split": "imagined"} for row in imagined]
    index = []
    for split, views in VIEWS.items():
        here = [row for row in rows if row["split"] == split]
        index += [row | {"place": place, "caption": ""} for place, row in enumerate(here)]
        tokens = torch.stack([_tokens(row["id"], row["label"], views, clip) for row in here], dim=1)
        for view, of_view in enumerate(tokens.half().numpy()):
            made.write_bytes(shard_file(split, view, 0), of_view.tobytes())
    plan = pa.Table.from_pylist(index).select([*INDEX_COLUMNS, "place"])
    made.write_table("index", plan)
    image = (clip.num_tokens, clip.embed_dim)
    extra = {"backbone": clip.backbone, "weights_hash": clip.weights_hash}
    shards = ShardPlan(made, plan, VIEWS, image).extra()
    return made.publish({"index": len(index), "rejected": 0}, extra | shards)


def _tokens(row: str, label: int, views: int, clip: Clip) -> Tensor:
    """(views, 1 + N, D); classes overlap, so that methods differ."""
    shape = (views, clip.num_tokens, clip.embed_dim)
    noise = row_rng(row).normal(size=shape).astype(np.float32)
    return torch.from_numpy(noise + 0.5 * row_rng(f"class {label}").normal(size=shape[2])).float()
