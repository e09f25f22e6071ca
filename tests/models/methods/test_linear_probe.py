from dataclasses import replace

import pytest
import torch

from models.methods.linear_probe import LinearProbe, LinearProbeHyper
from models.task import Features
from tests.models.methods.tasks import NAMES, accuracy, features, task


def test_two_classes_give_two_logits_that_differ_in_sign() -> None:
    cell = task(classes=2)
    logits = LinearProbe.fit(cell, LinearProbeHyper(), seed=0).logits(cell.train.clean)
    assert logits.shape == (8, 2)
    assert accuracy(logits, cell.train.labels) == 1.0


def test_a_class_without_shots_is_never_predicted() -> None:
    cell = task()
    others = cell.train.labels != 3
    train = Features(cell.train.tokens[:, others], cell.train.labels[others])
    adapted = LinearProbe.fit(replace(cell, train=train), LinearProbeHyper(), seed=0)
    predicted = adapted.logits(features(20, 7).clean).argmax(dim=1)
    assert set(predicted.tolist()) == set(range(len(NAMES))) - {3}


def test_one_class_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="linear_probe needs 2 classes in train, got 1"):
        LinearProbe.fit(task(classes=1), LinearProbeHyper(), seed=0)


def test_val_chooses_no_worse_than_the_default() -> None:
    cell = task()
    assert cell.val is not None
    chosen = LinearProbe.fit(cell, LinearProbeHyper(), seed=0).card.selection.val_accuracy
    fixed = LinearProbe.fit(replace(cell, val=None), LinearProbeHyper(), seed=0)
    default = accuracy(fixed.logits(cell.val.clean), cell.val.labels)
    assert chosen is not None
    assert chosen >= default


def test_the_scale_of_the_features_does_not_matter() -> None:
    cell = task()
    scaled = Features(cell.train.tokens.float() * 7, cell.train.labels)
    probes = [
        LinearProbe.fit(replace(cell, train=train, val=None), LinearProbeHyper(), seed=0)
        for train in (cell.train, scaled)
    ]
    first, second = (probe.tensors()["weight"] for probe in probes)
    torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-2)
