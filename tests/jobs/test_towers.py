"""The whole way of a tower of each kind: moment-DINO, features, every method that fits, answers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from actors.discovery.discoverer import DiscoveryConfig
from actors.features.encoder import EncoderConfig
from actors.pictures.base_set import BaseSetRows, open_base_set
from actors.search.cells import MethodConfig
from cluster.errors import ConfigError
from cluster.pool import Pool
from jobs.discover import discover_all
from jobs.encode import EncodeConfig, encode
from jobs.evaluate import EvaluateConfig, evaluate
from jobs.predict import main as predict
from jobs.pretrain import PretrainConfig, pretrain
from jobs.search import SearchConfig, search
from models.backbones import HUB_CONFIG, load_clip
from models.building import built
from models.clip import Clip
from models.methods import METHODS
from models.methods.needs import fitting_methods
from models.moment_adapter import load_teacher
from tests.actors.pretraining.test_loop import run
from tests.actors.small_base_set import CONFIG, write_base_set
from tests.actors.small_world import SMALL_ADAPTER, make_base_set, make_dataset, picture
from tests.jobs.small_discovery import WAY
from tests.jobs.small_discovery import config as discover_config
from tests.models.prompts.fast_tokenizers import write_kind as write_tokenizer

TEXT = {"width": 32, "heads": 2, "layers": 1}
KINDS: dict[str, dict[str, Any]] = {
    "siglip": {  # no class token, an attention pool, a text tower that is not causal
        "embed_dim": 96,
        "vision_cfg": {"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": TEXT,
        "init_logit_bias": -10,
        "custom_text": True,
    },
    "eva": {
        "embed_dim": 32,
        "vision_cfg": {
            "timm_model_name": "eva02_tiny_patch14_224",
            "timm_pool": "token",
            "timm_proj": None,
        },
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "resnet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        "text_cfg": TEXT,
    },
}
SETTINGS = {
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "resize_mode": "squash",
    "interpolation": "bilinear",
}
SHORT: dict[str, dict[str, Any]] = {
    "imaginefsl": {"steps": 2, "adapter": SMALL_ADAPTER},
    "class_means": {"without_teacher": "random", "adapter": SMALL_ADAPTER},
    "imaginefsl_lora": {"lora_steps": 1, "adapter": SMALL_ADAPTER, "rank": 1},
    "clip_lora": {"steps": 1, "rank": 1, "batch": 4},
    "fsnl": {"epochs": 1},
    "coop": {"epochs": 1},
    "cocoop": {"epochs": 1},
    "clip_adapter": {"epochs": 1},
    "tip_adapter_f": {"epochs": 1},
    "taskres": {"epochs": 1},
}


def write_kind(kind: str, folder: Path) -> str:
    """A random tower of a kind, as the hub has it; returns the name by which it is loaded."""
    config = KINDS[kind]
    if kind == "siglip":
        config = config | {"text_cfg": TEXT | write_tokenizer("t5", folder / "words")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(built(config).state_dict(), folder / "open_clip_model.safetensors")
    hub = {"model_cfg": config, "preprocess_cfg": SETTINGS}
    (folder / HUB_CONFIG).write_text(json.dumps(hub))
    return f"config:{folder / 'open_clip_model.safetensors'}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_goes_the_whole_way(
    kind: str,
    tmp_path: Path,
    local_ray: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backbone, storage = write_kind(kind, tmp_path), str(tmp_path)
    clip = load_clip(backbone)
    pool = Pool(workers=1)
    dataset = make_dataset(tmp_path, {"train": 3, "val": 2, "test": 2})
    base_set = make_base_set(tmp_path, per_class=1)
    (features,) = encode(
        EncodeConfig(
            storage=storage,
            datasets=[dataset.artifact.uri],
            base_set=base_set.uri,
            encoder=EncoderConfig(backbone=backbone, views=2),
            pool=pool,
        )
    )
    shards = features.manifest.extra["shards"]["test"]
    assert shards["image"] == [clip.num_tokens, clip.embed_dim]
    fitting = fitting_methods(clip.gifts)
    inputs: dict[str, Any] = {"datasets": [dataset.artifact.uri], "features": [features.uri]}
    methods = {name: one_line(name) for name in METHODS}
    search_cfg = SearchConfig(
        storage=storage, base_set=base_set.uri, seeds=[0], pool=pool, methods=methods, **inputs
    )
    if len(fitting) < len(METHODS):
        with pytest.raises(ConfigError, match=r"methods\..* needs .*fit it: zero_shot, "):
            search(search_cfg)
    adapted = search(
        dataclasses.replace(search_cfg, methods={name: methods[name] for name in fitting})
    )
    results = evaluate(EvaluateConfig(storage=storage, adapted=adapted.uri, pool=pool, **inputs))
    measured = results.read_table("rows").to_pylist()
    assert {row["method"] for row in measured} == set(fitting)
    assert all(0 <= row["value"] <= 1 for row in measured if row["measure"] == "accuracy")
    (tmp_path / "x.png").write_bytes(picture("any"))
    for model in sorted(Path(adapted.uri, "models").glob("*/0")):
        predict([str(model), str(tmp_path / "x.png"), "--top", "1"])
        assert '"reason"' not in capsys.readouterr().out
    way: DiscoveryConfig = dataclasses.replace(WAY, labelled=1)
    cfg = discover_config(tmp_path, discoveries={"zsnl": way}, seeds=[0])
    assert discover_all(cfg).read_table("metrics").num_rows
    assert_teaches(clip, tmp_path, backbone)


def one_line(method: str) -> MethodConfig:
    shots = [0] if method == "zero_shot" else [2]
    return MethodConfig(method=method, shots=shots, hyper=SHORT.get(method, {}))


def assert_teaches(clip: Clip, folder: Path, backbone: str) -> None:
    """By the loop of a worker; Ray Train around it is the same for all towers."""
    noise = folder / "noise"
    base_set = write_base_set(noise, classes=1, captions=4)
    cfg = dataclasses.replace(CONFIG, epochs=2)
    if "masks" in clip.gifts:
        trained = run((clip, open_base_set(BaseSetRows(base_set))), noise / "run", cfg)
        assert (trained.step, trained.skipped) == (2, 0)
        assert load_teacher(noise / "run").model["weights_hash"] == clip.weights_hash
        return
    with pytest.raises(ConfigError, match="backbone: moment-DINO needs tokens of patches"):
        pretrain(
            PretrainConfig(
                storage=str(noise),
                base_set=base_set.uri,
                backbone=backbone,
                probe=None,
                pretrainer=cfg,
            )
        )
