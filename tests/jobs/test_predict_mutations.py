"""Edited models: each answers, or says in one line why not. The edits are drawn from a seed."""

import copy
import dataclasses
import json
import math
import random
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.predict import main
from models.backbones import load_clip
from models.clip import Clip
from models.methods.adapted import CARD, TENSORS
from tests.actors.small_world import picture
from tests.jobs.test_predict import saved
from tests.models.methods.tasks import tiny_clip

MUTATIONS = 20
"""Of the card of each method, beside one of every field."""
MEMORY = 2**31
"""Bytes by which they may make this process grow."""
HYPER: dict[str, dict[str, Any]] = {
    "zero_shot": {},
    "linear_probe": {},
    "tip_adapter": {},
    "clip_adapter": {"epochs": 1},
    "coop": {"epochs": 1},
    "clip_lora": {"steps": 1},
    "fsnl": {"epochs": 1},
    "imaginefsl": {"head_steps": 1, "steps": 1},
}
VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 7, 10**9, 10**400, 0.5, 1e308, -1e-308, "NaN", "Infinity"),
    *("", " ", "tiny", "x" * 10**4, "\ud800", "{}", "{0.__class__}", "../../x", "a\nb"),
    *([], [None], [[]], ["a", "a"], [0.5, 0.5], {}, {"a": 1}, {"depth": 10**9}),
]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("tiny")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> dict[str, Path]:
    """Method to the folder of a saved model."""
    root = tmp_path_factory.mktemp("models")
    files = []
    for i in range(3):
        (root / f"{i}.png").write_bytes(picture(f"row {i}"))
        files.append(str(root / f"{i}.png"))
    for method, hyper in HYPER.items():
        saved(root / method, method, clip, files, hyper)
    return {method: root / method for method in HYPER}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values inside a JSON value."""
    items = dict(enumerate(value[:3])) if isinstance(value, list) else value
    for key, item in items.items() if isinstance(items, dict) else ():
        yield (*path, key)
        yield from places(item, (*path, key))


def edited(card: dict[str, Any], path: tuple[Any, ...], rng: random.Random) -> str:
    """The card's JSON with one value replaced, removed, or a field added beside it."""
    card = copy.deepcopy(card)
    parent = card
    for key in path[:-1]:
        parent = parent[key]
    edit = rng.choice(["replace"] * 6 + ["remove", "add"])
    if edit == "replace":
        parent[path[-1]] = rng.choice(VALUES)
    elif edit == "remove":
        del parent[path[-1]]
    elif isinstance(parent, dict):
        parent["unheard_of"] = rng.choice(VALUES)
    else:
        parent.append(rng.choice(VALUES))
    text = json.dumps(card)
    return text.replace('"NaN"', "NaN").replace('"Infinity"', "Infinity")


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """ "answered", or the one line of a refusal."""
    capsys.readouterr()
    code: str | int | None = 0
    try:
        main(list(arguments))
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    if code:
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err
    (row,) = map(json.loads, out.splitlines())
    assert all(math.isfinite(p) and 0 <= p <= 1 for p in row["probabilities"])
    assert err == ""
    return "answered"


@pytest.mark.long
@pytest.mark.parametrize("method", HYPER)
def test_an_edited_card_is_answered_from_or_refused_in_one_line(
    tmp_path: Path, models: dict[str, Path], method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models[method], tmp_path / "m")
    card = json.loads((tmp_path / "m" / CARD).read_text())
    rng = random.Random(f"cards of {method}")
    every = list(places(card))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = []
    for path in [*every, *rng.choices(every, k=MUTATIONS)]:
        (tmp_path / "m" / CARD).write_text(edited(card, path, rng))
        outcomes.append(answer(capsys, str(tmp_path / "m"), f"{models[method].parent}/0.png"))
    assert "answered" in outcomes, "no edit was harmless, such as another name of the dataset"
    assert len(set(outcomes)) > len(every) / 2
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MEMORY


@pytest.mark.long
def test_an_edited_clip_beside_a_model_is_answered_from_or_refused_in_one_line(
    tmp_path: Path, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    clip, folder, picture = tiny_clip(), tmp_path / "m", models["zero_shot"].parent / "0.png"
    model = saved(folder, "zero_shot", clip, [str(picture)] * 3)
    save_file(clip.model.state_dict(), folder / "clip.safetensors")
    model.card = dataclasses.replace(model.card, backbone="config:clip.safetensors")
    model.save(folder)
    rng = random.Random("configs")
    outcomes = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in 6 * list(places(clip.config)):
        (folder / "clip.json").write_text(edited(clip.config, path, rng))
        outcomes.append(answer(capsys, str(folder), str(picture)))
    assert any("describes no CLIP" in outcome for outcome in outcomes)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MEMORY


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", "[" * 10**5, '{"a": ' * 10**4, "\x00"]
)
def test_what_is_no_card_is_one_line(
    tmp_path: Path, models: dict[str, Path], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models["zero_shot"], tmp_path / "m")
    (tmp_path / "m" / CARD).write_text(text)
    refusal = answer(capsys, str(tmp_path / "m"), f"{models['zero_shot'].parent}/0.png")
    assert str(tmp_path / "m" / CARD) in refusal


@pytest.mark.parametrize("method", HYPER)
def test_tensors_that_are_no_numbers_are_one_line(
    tmp_path: Path, models: dict[str, Path], method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models[method], tmp_path / "m")
    state = load_file(tmp_path / "m" / TENSORS)
    name = next(name for name, tensor in sorted(state.items()) if tensor.is_floating_point())
    picture = f"{models[method].parent}/0.png"
    for value in (math.nan, math.inf, -math.inf):
        broken = state[name].clone()
        broken.view(-1)[-1] = value
        save_file(state | {name: broken}, tmp_path / "m" / TENSORS)
        refusal = answer(capsys, str(tmp_path / "m"), picture)
        assert f"{TENSORS}: ['{name}'] hold infinite numbers or NaN" in refusal
    save_file(state | {name: torch.full_like(state[name], 3e38)}, tmp_path / "m" / TENSORS)
    answer(capsys, str(tmp_path / "m"), picture)
    data = (models[method] / TENSORS).read_bytes()
    for cut in (0, 7, 40, len(data) // 2):
        (tmp_path / "m" / TENSORS).write_bytes(data[:cut])
        assert "is no safetensors file, or damaged" in answer(capsys, str(tmp_path / "m"), picture)


@pytest.mark.parametrize("tag", ["ViT-B-32/laion2b_s34b_b79k", "RN50/openai"])
def test_a_card_fetches_no_backbone_without_being_asked(
    tmp_path: Path,
    models: dict[str, Path],
    tag: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(models["zero_shot"], tmp_path / "m")
    card = json.loads((tmp_path / "m" / CARD).read_text())
    (tmp_path / "m" / CARD).write_text(json.dumps(card | {"backbone": tag}))
    refusal = answer(capsys, str(tmp_path / "m"), f"{models['zero_shot'].parent}/0.png")
    assert f"backbone: '{tag}' is not on this machine" in refusal
    assert "--download" in refusal
