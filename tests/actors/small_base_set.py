"""A base set and a CLIP of a few kilobytes, so that whole pretraining runs take seconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from safetensors.torch import save_file

from actors.pictures.codec import png_bytes
from actors.pretraining.config import PretrainerConfig
from cluster.artifacts import Artifact, draft
from cluster.rows import row_id, row_rng
from models.building import clip_from_config
from models.dino_head import HeadConfig
from models.moment_adapter import AdapterConfig
from models.moment_dino import MomentDinoConfig

CLIP_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"width": 8, "heads": 1, "layers": 1},
}
HEAD = HeadConfig(prototypes=24, hidden=16, bottleneck=8)
CONFIG = PretrainerConfig(
    model=MomentDinoConfig(
        adapter=AdapterConfig(depth=2, inner=8, heads=2, drop_path=0.2),
        dino_head=HEAD,
        ibot_head=HEAD,
    ),
    epochs=3,
    batch_size=4,
    lr=1e-3,
    teacher_temperature_epochs=2.0,
    precision="fp32",
    log_every=1,
)


def write_clip(folder: Path) -> str:
    """A random CLIP; returns the name by which `load_clip` finds it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = clip_from_config(CLIP_CONFIG)
    save_file(clip.model.state_dict(), folder / "clip.safetensors")
    (folder / "clip.json").write_text(json.dumps(CLIP_CONFIG))
    return f"config:{folder / 'clip.safetensors'}"


def write_base_set(storage: Path, classes: int = 3, captions: int = 6) -> Artifact:
    """Noise in four views per caption, as PNG; every row is usable."""
    return publish(storage, noise(classes, captions))


def noise(classes: int = 3, captions: int = 6) -> list[dict[str, Any]]:
    """The rows of `write_base_set`."""
    return [
        row(f"class {number}", index, view)
        for number in range(classes)
        for index in range(captions)
        for view in range(4)
    ]


def publish(storage: Path, rows: list[dict[str, Any]]) -> Artifact:
    out = draft(str(storage), "images", "noise", content={"n": len(rows)}, config={}, inputs={})
    out.write_table("rows", pa.Table.from_pylist(rows))
    return out.publish({"rows": len(rows)})


def row(class_name: str, index: int, view: int, size: int = 20) -> dict[str, Any]:
    identity = row_id("noise", class_name, index, view, "noise")
    pixels = row_rng(identity).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return {
        "id": identity,
        "dataset": "noise",
        "class_name": class_name,
        "index": index,
        "view": view,
        "reason": "",
        "image": png_bytes(Image.fromarray(pixels)),
    }
