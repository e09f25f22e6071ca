"""The original's files become artifacts that the other jobs open, and go out again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jsonargparse import auto_cli
from safetensors.torch import load_file, save_file

from actors.pretraining.state import MODEL
from cluster.errors import ConfigError
from jobs.export_model import ExportModelConfig, export_model
from jobs.import_model import ImportModelConfig, import_model
from models.backbones import load_clip
from models.clip import Clip
from models.methods import load_adapted
from models.moment_adapter import load_teacher
from models.released.fine_tuned import FineTunedConfig
from models.released.teacher import read_branch
from tests.models.methods.tasks import NAMES
from tests.models.released.test_released import ALPHA, TEACHER, fine_tuned, lora_files, same
from tests.parity import golden_clip


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """The golden's image tower as a local CLIP."""
    config = json.loads((TEACHER.parent / "config.json").read_text())
    made = golden_clip(config, read_branch(TEACHER))
    save_file(made.model.state_dict(), tmp_path / "golden.safetensors")
    (tmp_path / "golden.json").write_text(json.dumps(made.config))
    return load_clip(f"config:{tmp_path / 'golden.safetensors'}")


@pytest.fixture
def cfg(tmp_path: Path, clip: Clip) -> ImportModelConfig:
    return ImportModelConfig(storage=str(tmp_path / "runs"), backbone=clip.backbone, heads=3)


def test_a_teacher_comes_in_and_goes_out(tmp_path: Path, cfg: ImportModelConfig) -> None:
    made = import_model(replace(cfg, teacher=str(TEACHER)))
    teacher = load_teacher(made.local_dir())
    saved = torch.load(TEACHER, weights_only=True)["teacher"]
    assert same(
        {f"adapter.{name}": tensor for name, tensor in teacher.adapter_state.items()},
        {name: tensor for name, tensor in saved.items() if name.startswith("adapter.")},
    )
    assert made.manifest.kind == "teacher"
    assert made.manifest.extra["reports"][0]["taken"]["adapter"] == 24
    assert made.read_json(MODEL)["adapter"]["heads"] == 3
    assert import_model(replace(cfg, teacher=str(TEACHER))) == made, "done before"
    export_model(ExportModelConfig(folder=str(tmp_path / "out"), teacher=made.uri))
    again = torch.load(tmp_path / "out" / "teacher_checkpoint.pth", weights_only=True)
    assert same(again["teacher"], saved)


def test_a_model_goes_out_with_the_command_that_imports_it(
    tmp_path: Path, cfg: ImportModelConfig, clip: Clip
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES) + "\n")
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim) | {"names": str(names)}
    given = FineTunedConfig(**settings, log_temperature=4.6052)
    made = import_model(replace(cfg, heads=2, fine_tuned=given))
    out = tmp_path / "out"
    export_model(ExportModelConfig(folder=str(out), adapted=made.uri, name="animals_4shot"))
    arguments = ["--config", str(out / "animals_4shot.json"), "--storage", str(tmp_path / "more")]
    again = import_model(auto_cli(ImportModelConfig, args=arguments, as_positional=False))
    folders = made.local_dir(), again.local_dir()
    first, second = (load_adapted(folder, clip) for folder in folders)
    assert first.card == second.card
    assert same(*(load_file(folder / "adapted.safetensors") for folder in folders))


def test_a_lora_set_brings_its_clip_and_may_be_moved(
    tmp_path: Path, cfg: ImportModelConfig, clip: Clip
) -> None:
    merged, _, right = lora_files(clip, tmp_path)
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim, lora=True)
    given = FineTunedConfig(**settings, visual_model=str(merged), lora_alpha=ALPHA)
    made = import_model(replace(cfg, heads=2, fine_tuned=given))
    folder = made.local_dir().rename(tmp_path / "moved")
    own = load_clip(f"config:{folder / 'clip.safetensors'}")
    assert same(dict(own.model.visual.state_dict()), {name: t.float() for name, t in right.items()})
    adapted = load_adapted(folder, own)
    tokens = own.encode_tokens(torch.randn(2, 3, own.image_size, own.image_size))
    assert adapted.logits(tokens).isfinite().all()
    assert adapted.card.hyper["lora"] == {"rank": 2, "alpha": ALPHA, "found": "merged"}
    with pytest.raises(ValueError, match="weights_hash is"):
        load_adapted(folder, clip)
    with pytest.raises(
        ConfigError, match=r"imaginefsl. with LoRA; allowed: imaginefsl on a plain CLIP"
    ):
        export_model(ExportModelConfig(folder=str(tmp_path / "out"), adapted=str(folder)))


def test_bad_settings_are_one_line(tmp_path: Path, cfg: ImportModelConfig) -> None:
    with pytest.raises(ConfigError, match="allowed: either a teacher or a fine_tuned set"):
        import_model(cfg)
    with pytest.raises(ConfigError, match=r"teacher: no file '/nowhere.pth'; allowed: a local"):
        import_model(replace(cfg, teacher="/nowhere.pth"))
    with pytest.raises(ConfigError, match=r"tensors do not fit a teacher model: .*dino_head"):
        import_model(replace(cfg, backbone="tiny", heads=2, teacher=str(TEACHER)))
    assert not (tmp_path / "runs").exists(), "nothing half-written is left"
