"""Classifying labelled images by the teacher's moments."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor

from actors.pictures.base_set import BaseSetRows, open_base_set
from actors.pictures.codec import png_bytes
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.probe import (
    HELD_OUT,
    Classifier,
    Pictures,
    Probe,
    ProbeConfig,
    Task,
    key,
    require_probe,
)
from cluster.artifacts import draft
from cluster.catalog.dataset import SCHEMA, Concept, publish_dataset
from cluster.errors import ConfigError
from kernels.moments import moments_reference
from models.backbones import load_clip
from models.moment_dino import MomentDino
from tests.actors.small_base_set import CONFIG, noise, publish, write_base_set, write_clip

CLASSIFIERS: tuple[Classifier, ...] = get_args(Classifier)
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


def probed(folder: Path, pretrainer: PretrainerConfig = CONFIG, **config: Any) -> Probe:
    clip = load_clip(write_clip(folder))
    return Probe(ProbeConfig(**config), clip, pretrainer, BaseSetRows(write_base_set(folder)))


def test_colours_are_told_apart_and_chance_is_not_beaten_on_wrong_labels(tmp_path: Path) -> None:
    probe = probed(tmp_path, datasets=[write_colours(tmp_path)], per_class=4)
    task = probe.tasks["colours"]
    assert len(task.train.labels) == len(task.test.labels) == 12
    teacher = MomentDino(probe.clip, CONFIG.model).teacher.state_dict()
    metrics = probe.metrics(teacher)
    assert set(metrics.values()) == {1.0}
    assert len(metrics) == 9, "three features, three classifiers"
    wrong = Pictures(task.test.tokens, (task.test.labels + 1) % 3)
    probe.tasks["colours"] = Task(task.train, wrong)
    assert {probe.metrics(teacher)[key("colours", "teacher", c)] for c in CLASSIFIERS} == {0.0}


def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    probe = probed(tmp_path, datasets=[write_colours(tmp_path, guilty="red")])
    assert sorted(probe.tasks["colours"].test.labels) == [1] * 6 + [2] * 6


def test_features_are_of_the_teacher_of_the_start_and_of_no_adapter(tmp_path: Path) -> None:
    """By what the class means make of them, computed here step by step."""
    probe = probed(tmp_path, replace(CONFIG, held_out=0.3), pictures=40)
    task = probe.tasks[HELD_OUT]
    torch.manual_seed(CONFIG.seed)
    start = MomentDino(probe.clip, CONFIG.model)
    torch.manual_seed(7)
    teacher = MomentDino(probe.clip, CONFIG.model).teacher
    metrics = probe.metrics(teacher.state_dict())
    adapters: dict[str, Callable[[Tensor], Tensor]] = {
        "teacher": teacher.adapter,
        "random": start.student.adapter,
        "raw": lambda tokens: tokens,
    }
    for features, adapter in adapters.items():
        with torch.no_grad():
            train, test = (
                moments_reference(adapter(part.tokens.float())) for part in (task.train, task.test)
            )
        train, test = (x / x.norm(dim=1, keepdim=True) for x in (train, test))
        classes = sorted(set(task.train.labels))
        means = torch.stack([train[torch.tensor(task.train.labels == c)].mean(0) for c in classes])
        cosines = test @ (means / means.norm(dim=1, keepdim=True)).T
        names = np.array(classes)[cosines.argmax(1).numpy()]
        expected = (names == task.test.labels).mean()
        assert metrics[f"{HELD_OUT}/{features}/ncm"] == pytest.approx(expected)


def test_what_is_held_out_is_told_apart_by_what_is_trained_on(tmp_path: Path) -> None:
    """Other captions in both, of each one picture before any has a second one."""
    rows = BaseSetRows(write_base_set(tmp_path))
    pretrainer = replace(CONFIG, held_out=0.3)
    clip = load_clip(write_clip(tmp_path))
    held = pretrainer.count_held_out(rows.count_captions())
    trained_on = open_base_set(rows, held_out=held)
    assert (len(rows.index), held, len(trained_on)) == (18, 5, 13)
    assert set(trained_on.captions) | set(rows.index.captions[:held]) == set(rows.index.captions)
    probe = Probe(ProbeConfig(pictures=16), clip, pretrainer, rows)
    task = probe.tasks[HELD_OUT]
    assert len(task.train.labels) == len(task.test.labels) == 16
    tokens = {tuple(t.flatten().tolist()) for part in (task.train, task.test) for t in part.tokens}
    assert len(tokens) == 32, "no picture twice"


def test_another_artists_pictures_count_where_the_class_is_known(tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    more = write_base_set(other, classes=5)
    probe = probed(tmp_path, base_sets=[more.uri], pictures=400)
    task = probe.tasks[more.manifest.name]
    assert set(task.test.labels) == set(task.train.labels)
    assert len(set(task.train.labels)) == 3
    assert len(task.test.labels) == 3 * 6 * 4


def test_where_nothing_can_be_told_apart_it_is_one_line(tmp_path: Path) -> None:
    """No class in common, none of two pictures, a single class: found before the first step."""
    strangers = noise(classes=2)
    for row in strangers:
        row["class_name"] = f"another {row['class_name']}"
    (tmp_path / "strangers").mkdir()
    (tmp_path / "empty").mkdir()
    bad = [publish(tmp_path / "strangers", strangers), publish(tmp_path / "empty", strangers[:1])]
    for artifact in bad:
        with pytest.raises(
            ConfigError, match=r"probe: .* has 0 pictures to tell apart, by 3 class"
        ):
            probed(tmp_path, base_sets=[artifact.uri])
    one, clip = write_base_set(tmp_path, classes=1), load_clip(write_clip(tmp_path))
    with pytest.raises(ConfigError, match="'held_out' has 4 pictures to tell apart, by 1 classes"):
        Probe(ProbeConfig(), clip, replace(CONFIG, held_out=0.2), BaseSetRows(one))


def test_what_cannot_be_probed_is_refused(tmp_path: Path) -> None:
    uri = write_colours(tmp_path)
    require_probe(ProbeConfig(datasets=[uri]))
    with pytest.raises(ConfigError, match="two are called 'colours'; allowed: each name once"):
        require_probe(ProbeConfig(datasets=[uri, uri]))
    with pytest.raises(ConfigError, match="does not exist"):
        require_probe(ProbeConfig(base_sets=["/nowhere"]))
