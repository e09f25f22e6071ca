"""Classifying labelled images by the teacher's moments."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from actors.pictures.codec import png_bytes
from actors.pretraining.probe import Probe, ProbeConfig
from cluster.artifacts import draft
from cluster.catalog.dataset import SCHEMA, Concept, publish_dataset
from models.backbones import load_clip
from models.moment_dino import MomentDino
from tests.actors.small_base_set import CONFIG, write_clip

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def write_colours(storage: Path, guilty: str = "") -> str:
    """Noisy squares of three colours; those of test are without meaning. guilty: a class whose
    pictures in val are cut off in the middle."""
    rng = np.random.default_rng(0)
    rows = []
    for label, (name, colour) in enumerate(COLOURS.items()):
        for split in ("train", "val", "test"):
            for number in range(6):
                noise = rng.integers(-20, 20, (20, 20, 3)) if split != "test" else 0
                png = png_bytes(Image.fromarray((np.array(colour) + noise).astype(np.uint8)))
                cut = split == "val" and name == guilty
                rows.append(
                    {
                        "id": f"{name} {split} {number}",
                        "dataset": "colours",
                        "class_name": name,
                        "label": label,
                        "group": "IP",
                        "split": split,
                        "caption": None,
                        "path": None,
                        "order": None,
                        "image": png[:40] if cut else png,
                    }
                )
    out = draft(str(storage), "dataset", "colours", content={}, config=None, inputs={})
    concepts = [Concept(name, "IP") for name in COLOURS]
    dataset = publish_dataset(
        out,
        pa.Table.from_pylist(rows, schema=SCHEMA),
        concepts,
        hint="colour",
        template="a {} square.",
    )
    return dataset.artifact.uri


def test_colours_are_told_apart_and_chance_is_not_beaten_on_wrong_labels(tmp_path: Path) -> None:
    clip = load_clip(write_clip(tmp_path))
    config = ProbeConfig(dataset=write_colours(tmp_path), per_class=4)
    probe = Probe(config, clip, CONFIG)
    assert len(probe.train[1]) == len(probe.val[1]) == 12
    teacher = MomentDino(clip, CONFIG.model).teacher.state_dict()
    assert probe.metrics(teacher) == {"knn": 1.0, "linear_probe": 1.0}
    probe.val = (probe.val[0], (probe.val[1] + 1) % 3)
    assert probe.metrics(teacher) == {"knn": 0.0, "linear_probe": 0.0}


def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    config = ProbeConfig(dataset=write_colours(tmp_path, guilty="red"))
    probe = Probe(config, load_clip(write_clip(tmp_path)), CONFIG)
    assert sorted(probe.val[1]) == [1] * 6 + [2] * 6
