"""Test images are answered some at a time, and no more of them is read than a model needs."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from actors.search import evaluator
from actors.search.cells import MethodConfig, declared_cells
from actors.search.evaluator import answers_on_test
from actors.search.tasks import Tasks, TaskSource
from actors.search.trials import fit_cell
from cluster.catalog.splits import Concepts
from models.methods.adapted import Adapted
from tests.actors.small_world import METHODS, make_dataset, make_features


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    storage = tmp_path_factory.mktemp("toys")
    dataset = make_dataset(storage)
    features = make_features(storage, dataset)
    return Tasks(TaskSource((dataset.artifact.uri,), (features.uri,), None, "min", "hand"))


def fitted(tasks: Tasks, name: str, concepts: Concepts = "all") -> Adapted:
    settings = METHODS[name]
    method = MethodConfig(
        method=settings.method,
        shots=settings.shots[-1:],
        concepts=concepts,
        hyper=settings.hyper,
    )
    (cell,) = declared_cells(["toys"], {name: method}, {})
    ((model, outcome),) = fit_cell(tasks, cell, 0, [{}], None)
    assert model is not None, outcome.error
    return model


@pytest.mark.parametrize(
    ("name", "concepts", "tokens"),
    [
        ("zero-shot", "all", 1),
        ("fsnl", "OOP", 1),
        ("linear-probe", "OOP", 1),
        ("imaginefsl-scratch", "OOP", 65),
        ("imaginefsl-scratch", "all", 65),
    ],
)
def test_parts_of_the_test_split_are_answered_as_the_whole(
    tasks: Tasks,
    name: str,
    concepts: Concepts,
    tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = fitted(tasks, name, concepts)
    encoded = tasks.encoded["toys"]
    spaces: list[Concepts] = ["all", "OOP"] if model.open_vocabulary else [concepts]
    whole = answers_on_test(model, encoded, spaces)
    test = encoded.of_concepts(encoded.store.features("test"), spaces[0])
    logits = model.logits(test.clean, encoded.names(spaces[0]))
    assert torch.equal(whole[spaces[0]].logits, logits)
    assert torch.equal(whole[spaces[0]].labels, test.labels)

    parts: list[torch.Size] = []
    answer = type(model).heads

    def noted(model: Adapted, seen: Tensor, *names: object) -> dict[str, Tensor]:
        parts.append(seen.shape)
        return answer(model, seen, *names)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model), "heads", noted)
    monkeypatch.setattr(evaluator, "IMAGES_AT_ONCE", 5)
    again = answers_on_test(model, encoded, spaces)
    assert [part[0] for part in parts] == [5] * (len(test) // 5) + [len(test) % 5]
    assert {part[1] for part in parts} == {tokens}
    assert again.keys() == whole.keys()
    for space, answers in whole.items():
        torch.testing.assert_close(again[space].logits, answers.logits)
        assert torch.equal(again[space].labels, answers.labels)


def test_a_label_space_without_images_is_left_out(tasks: Tasks, tmp_path: Path) -> None:
    ip_alone = make_dataset(tmp_path, concepts=tasks.encoded["toys"].dataset.concepts[:3])
    features = make_features(tmp_path, ip_alone)
    source = TaskSource((ip_alone.artifact.uri,), (features.uri,), None, "min", "hand")
    encoded = Tasks(source).encoded["toys"]
    answers = answers_on_test(fitted(tasks, "zero-shot"), encoded, ["all", "OOP", "IP"])
    assert list(answers) == ["all", "IP"]
