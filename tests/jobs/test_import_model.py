"""The original's files become artifacts that the other jobs open, and go out again."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.features.encoder import view_tokens
from actors.pictures.decoded import pictures
from actors.pretraining.state import MODEL
from actors.search.saved_models import saved_models
from actors.search.saved_tests import SavedEvaluator, SavedTest
from cluster.artifacts import open_artifact
from cluster.catalog.dataset import Concept
from cluster.catalog.names import shown_name
from cluster.errors import ConfigError
from jobs.export import ExportModelConfig, ExportTeacherConfig, export_model, export_teacher
from jobs.import_ import ImportModelConfig, ImportTeacherConfig, import_model, import_teacher
from models.backbones import load_clip
from models.clip import Clip
from models.methods import load_adapted
from models.methods.adapted import Adapted
from models.moment_adapter import load_teacher
from models.released.teacher import read_branch
from tests.actors.small_world import make_dataset
from tests.command_line import run_module
from tests.models.methods.tasks import NAMES
from tests.models.released.test_released import ALPHA, TEACHER, fine_tuned, lora_files, same
from tests.parity import golden_clip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """The golden's image tower as a local CLIP."""
    config = json.loads((TEACHER.parent / "config.json").read_text())
    made = golden_clip(config, read_branch(TEACHER))
    save_file(made.model.state_dict(), tmp_path / "golden.safetensors")
    (tmp_path / "golden.json").write_text(json.dumps(made.config))
    return load_clip(f"config:{tmp_path / 'golden.safetensors'}")


@pytest.fixture
def common(tmp_path: Path, clip: Clip) -> dict[str, Any]:
    """Settings of both kinds."""
    return {"storage": str(tmp_path / "runs"), "backbone": clip.backbone, "heads": 2}


@pytest.fixture
def cfg(common: dict[str, Any]) -> ImportTeacherConfig:
    return ImportTeacherConfig(**common | {"heads": 3}, file=str(TEACHER))


def test_a_teacher_comes_in_and_goes_out(tmp_path: Path, cfg: ImportTeacherConfig) -> None:
    made = import_teacher(cfg)
    teacher = load_teacher(made.local_dir())
    saved = torch.load(TEACHER, weights_only=True)["teacher"]
    assert same(
        {f"adapter.{name}": tensor for name, tensor in teacher.adapter_state.items()},
        {name: tensor for name, tensor in saved.items() if name.startswith("adapter.")},
    )
    assert made.manifest.kind == "teacher"
    assert made.manifest.extra["reports"][0]["taken"]["adapter"] == 24
    assert made.read_json(MODEL)["adapter"]["heads"] == 3
    assert import_teacher(cfg) == made, "done before"
    export_teacher(ExportTeacherConfig(folder=str(tmp_path / "out"), teacher=made.uri))
    again = torch.load(tmp_path / "out" / "teacher_checkpoint.pth", weights_only=True)
    assert same(again["teacher"], saved)


@pytest.mark.ray
def test_a_model_goes_out_with_the_command_that_imports_it(
    tmp_path: Path, common: dict[str, Any], clip: Clip
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES) + "\n")
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim) | {"names": str(names)}
    made = import_model(ImportModelConfig(**common, **settings, log_temperature=4.6052))
    out = tmp_path / "out"
    export_model(ExportModelConfig(folder=str(out), adapted=made.uri, name="animals_4shot"))
    command = [sys.executable, "-m", "jobs.import_", "model", "--config", "animals_4shot.json"]
    command += ["--storage", str(tmp_path / "more")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=out, env=env, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    again = open_artifact(json.loads(run.stdout.splitlines()[-1])["artifact"], "model")
    folders = made.local_dir(), again.local_dir()
    first, second = (load_adapted(folder, clip) for folder in folders)
    assert first.card == second.card
    assert same(*(load_file(folder / "adapted.safetensors") for folder in folders))


def test_files_that_have_moved_are_the_same_model(
    tmp_path: Path, common: dict[str, Any], clip: Clip
) -> None:
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim) | {"log_temperature": 4.6052}
    made = import_model(ImportModelConfig(**common, **settings))
    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved" / Path(settings["adapter"]).name
    Path(settings["adapter"]).rename(moved)
    assert import_model(ImportModelConfig(**common, **settings | {"adapter": str(moved)})) == made


def test_a_lora_set_brings_its_clip_and_may_be_moved(
    tmp_path: Path, common: dict[str, Any], clip: Clip
) -> None:
    merged, _, right = lora_files(clip, tmp_path)
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim, lora=True)
    settings |= {"visual_model": str(merged), "lora_alpha": ALPHA}
    made = import_model(ImportModelConfig(**common, **settings))
    folder = made.local_dir().rename(tmp_path / "moved")
    own = load_clip(f"config:{folder / 'clip.safetensors'}")
    assert same(dict(own.model.visual.state_dict()), {name: t.float() for name, t in right.items()})
    adapted = load_adapted(folder, own)
    tokens = own.encode_tokens(torch.randn(2, 3, own.image_size, own.image_size))
    assert adapted.logits(tokens).isfinite().all()
    assert adapted.card.hyper["lora"] == {"rank": 2, "alpha": ALPHA, "found": "merged"}
    assert_tested(str(folder), tmp_path, adapted, shots=0)
    with pytest.raises(ValueError, match="weights_hash is"):
        load_adapted(folder, clip)
    with pytest.raises(
        ConfigError, match=r"imaginefsl. with LoRA; allowed: fsnl, and imaginefsl on"
    ):
        export_model(ExportModelConfig(folder=str(tmp_path / "out"), adapted=str(folder)))


def test_an_imported_model_is_tested(tmp_path: Path, common: dict[str, Any], clip: Clip) -> None:
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim) | {"log_temperature": 4.6052}
    made = import_model(ImportModelConfig(**common, **settings, shots=16))
    assert_tested(made.uri, tmp_path, load_adapted(made.local_dir(), clip), shots=16)


def assert_tested(model: str, folder: Path, expected: Adapted, shots: int) -> None:
    """On pictures of its classes: as many right, by every head, as the model itself says."""
    clip, concepts = expected.clip, tuple(Concept(shown_name(name), "OOP") for name in NAMES)
    pets = make_dataset(folder / "pets", concepts=concepts, name=expected.card.dataset)
    tables = SavedEvaluator()(SavedTest(saved_models([model])[0], pets.artifact.uri, "key"))
    test = [row for row in pets.rows.to_pylist() if row["split"] == "test"]
    views = pictures(pets.artifact, [row["id"] for row in test], *clip.square)
    heads = expected.heads(view_tokens(clip, views))
    labels = torch.tensor([row["label"] for row in test])
    right = {head: int((logits.argmax(dim=1) == labels).sum()) for head, logits in heads.items()}
    (row,) = (r for r in tables["rows"].to_pylist() if r["measure"] == "accuracy")
    assert row["value"] * len(test) == pytest.approx(right["fused"])
    assert (row["shots"], row["images"], row["head"]) == (shots, len(test), "fused")
    of_heads = {
        r["head"]: r["value"] for r in tables["heads"].to_pylist() if r["measure"] == "accuracy"
    }
    assert of_heads == pytest.approx({head: count / len(test) for head, count in right.items()})


def test_bad_settings_are_one_line(tmp_path: Path, cfg: ImportTeacherConfig) -> None:
    with pytest.raises(ConfigError, match=r"file: no file '/nowhere.pth'; allowed: a local"):
        import_teacher(replace(cfg, file="/nowhere.pth"))
    with pytest.raises(ConfigError, match=r"tensors do not fit a teacher model: .*dino_head"):
        import_teacher(replace(cfg, backbone="tiny", heads=2))
    assert not (tmp_path / "runs").exists(), "nothing half-written is left"


@pytest.mark.parametrize("job", ["import_", "export"])
def test_an_unknown_kind_is_one_line(job: str) -> None:
    for arguments in ([], ["pictures"]):
        refused = run_module(f"jobs.{job}", *arguments)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        for kind in ("images", "teacher", "model"):
            assert kind in refused.stderr
