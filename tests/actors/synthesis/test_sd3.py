"""The real pipeline on a checkpoint of random weights; nothing here may touch the network."""

import dataclasses
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from actors.embedded.sprite_factors import FACTORS
from actors.pictures.codec import decode_rgb, suffix
from actors.synthesis.captions.rows import CLASS_COLUMNS
from actors.synthesis.painters.painter import CaptionPainter, PainterConfig
from actors.synthesis.painters.sd3 import Sd3Config, Sd3Painter
from cluster.errors import ConfigError
from models.onnx_denoiser import CPU, load_onnx_denoiser
from tests.actors.synthesis.tiny_sd3 import save_tiny_sd3

IDS = ["a1", "b2", "c3", "d4"]
FOX = {"caption": "a red fox in the snow"}
OWL = {"caption": "an owl at night"}
DENOISER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module", autouse=True)
def cpu_without_network() -> Iterator[None]:
    """Float32 wherever the tests run, and an error for whoever looks outside."""

    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("a local checkpoint touched the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd3") / "tiny"
    save_tiny_sd3(folder)
    return folder


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copied"))


@pytest.fixture(scope="module")
def painter(checkpoint: Path) -> Sd3Painter:
    return Sd3Painter(config(checkpoint))


def config(folder: Path, **changes: Any) -> Sd3Config:
    plain = Sd3Config(model=str(folder), steps=3, size=64, negative_prompt="blurred")
    return dataclasses.replace(plain, **changes)


def painted(painter: Sd3Painter, **changes: Any) -> list[bytes]:
    """Pictures of one caption by a painter with other settings, without loading it again."""
    before = painter.cfg
    try:
        painter.cfg = dataclasses.replace(before, **changes)
        return as_bytes(painter.paint(FOX, IDS))
    finally:
        painter.cfg = before


def as_bytes(pictures: list[Image.Image]) -> list[bytes]:
    return [picture.tobytes() for picture in pictures]


def change_tensor(file: Path, value: float) -> None:
    state = load_file(file)
    state["proj_out.bias"].fill_(value)
    save_file(state, file, metadata={"format": "pt"})


def test_a_picture_depends_on_its_caption_and_id_alone(painter: Sd3Painter) -> None:
    first = as_bytes(painter.paint(FOX, IDS))
    other = as_bytes(painter.paint(OWL, IDS))
    assert as_bytes(painter.paint(FOX, IDS[::-1])) == first[::-1]
    assert as_bytes(painter.paint(FOX, IDS[2:3])) == first[2:3]
    assert as_bytes(painter.paint(FOX, [*IDS, "e5"]))[:4] == first
    assert len({*first, *other}) == 8


def test_settings_reach_the_pipeline(painter: Sd3Painter) -> None:
    pictures = painter.paint(FOX, IDS[:1])
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (64, 64))]
    assert np.asarray(pictures[0]).std() > 5
    plain = painted(painter)
    changed = [
        painted(painter, guidance=3.0),
        painted(painter, negative_prompt="sharp"),
        painted(painter, steps=4),
    ]
    assert all(plain[view] != pictures[view] for pictures in changed for view in range(4))
    assert painted(painter, guidance=1.0) == painted(painter, guidance=1.0, negative_prompt="sharp")
    weights = painter.provenance(FOX)["weights"]
    assert painter.provenance(FOX) == {
        "generator": "sd3", "weights": weights, "steps": 3, "guidance": 7.0, "size": 64,
    }  # fmt: skip


def test_without_t5(painter: Sd3Painter, copied: Path) -> None:
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(copied / part)
    small = Sd3Painter(config(copied, drop_t5=True))
    assert small.pipeline.text_encoder_3 is None
    assert set(as_bytes(small.paint(FOX, IDS))).isdisjoint(as_bytes(painter.paint(FOX, IDS)))
    assert small.provenance(FOX)["weights"] != painter.provenance(FOX)["weights"]


def test_onnx_denoises_as_torch_and_is_exported_once(
    painter: Sd3Painter, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "imagine-beyond"
    with ThreadPoolExecutor() as pool:
        twins = [
            pool.submit(load_onnx_denoiser, checkpoint, cache, batch=8, side=8, providers=[CPU])
            for _ in range(2)
        ]
    assert all(twin.result().config.in_channels == 4 for twin in twins)
    graph, weights = exported = sorted(tmp_path.rglob("*.onnx*"))
    assert graph.parent == weights.parent
    written = [file.stat().st_mtime_ns for file in exported]

    in_onnx = Sd3Painter(config(checkpoint, denoiser="onnx", providers=(CPU,)))
    assert np.abs(loop(in_onnx) - loop(painter)).max() < 1e-4
    assert in_onnx.provenance(FOX) == {**painter.provenance(FOX), "generator": "sd3-onnx"}
    unguided = Sd3Painter(config(checkpoint, denoiser="onnx", guidance=0.0, batch_size=3))
    assert len(set(as_bytes(unguided.paint(FOX, IDS)))) == 4
    assert sorted(tmp_path.rglob("*.onnx*")) == exported
    assert [file.stat().st_mtime_ns for file in exported] == written


def loop(painter: Sd3Painter) -> np.ndarray:
    """Pixels in [0, 1] after the whole loop, before they are rounded."""
    seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
    return painter.pipeline(
        "a red fox", height=64, width=64, num_inference_steps=8, guidance_scale=7.0,
        num_images_per_prompt=4, generator=seeds, output_type="np",
    ).images  # fmt: skip


def test_weights_name_their_pictures(painter: Sd3Painter, copied: Path) -> None:
    change_tensor(copied / DENOISER, 0.5)
    assert (
        Sd3Painter(config(copied)).provenance(FOX)["weights"] != painter.provenance(FOX)["weights"]
    )


def test_a_picture_that_is_not_finite_is_refused(copied: Path) -> None:
    change_tensor(copied / DENOISER, float("nan"))
    with pytest.raises(ValueError, match=r"^the picture is not finite$"):
        Sd3Painter(config(copied)).paint(FOX, IDS)


@pytest.mark.parametrize("caption", ["", " \n", None])
def test_an_empty_caption_is_refused(painter: Sd3Painter, caption: str | None) -> None:
    with pytest.raises(ValueError, match=r"^empty caption$"):
        painter.paint({"caption": caption}, IDS)


def only_pickles(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        torch.save(load_file(file), file.with_name("pytorch_model.bin"))
        torch.save(load_file(file), file.with_name("diffusion_pytorch_model.bin"))
        file.unlink()


def no_tensor(folder: Path) -> None:
    state = load_file(folder / DENOISER)
    del state["proj_out.bias"]
    save_file(state, folder / DENOISER, metadata={"format": "pt"})


def draws_noise(folder: Path) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"stochastic_sampling": True}))


def unlinked(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (only_pickles, "'transformer' of .*no file named diffusion_pytorch_model.safetensors"),
        (no_tensor, "'transformer' of .*no tensor proj_out.bias"),
        (written(DENOISER, "no tensors"), "'transformer' of "),
        (written("vae/config.json", "[]"), "'vae' of "),
        (written("scheduler/scheduler_config.json", "{}"), "'scheduler' of .*None is not"),
        (draws_noise, "'scheduler' of .*not a deterministic"),
        (unlinked("tokenizer_2/tokenizer.json"), "'tokenizer_2' of .*none of tokenizer.json"),
        (written("tokenizer_3/tokenizer.json", '{"model": 0}'), "'tokenizer_3' of "),
        (written("text_encoder/config.json", '{"hidden_size": "x"}'), "'text_encoder' of "),
        (lambda folder: shutil.rmtree(folder / "text_encoder"), "'text_encoder' of .*no such fold"),
        (written("model_index.json", "[]"), "holds no StableDiffusion3Pipeline"),
        (shutil.rmtree, "is no folder here"),
    ],
)
def test_a_broken_checkpoint_is_one_line(
    copied: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(copied)
    with pytest.raises(ConfigError, match=rf"^model: .*{reason}.*; allowed") as caught:
        Sd3Painter(config(copied))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 72}, "^size: 72; allowed: a multiple of 16$"),
        ({"size": 256}, "^size: 256; allowed for .*: up to 128$"),
        (
            {"denoiser": "onnx", "providers": ("CUDAExecutionProvider",)},
            "^providers: CUDAExecutionProvider; allowed here: .*CPUExecutionProvider",
        ),
    ],
)
def test_a_setting_that_does_not_fit_is_one_line(
    checkpoint: Path, changes: dict[str, Any], reason: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=reason):
        Sd3Painter(config(checkpoint, **changes))


def test_it_paints_for_the_images_job(checkpoint: Path) -> None:
    caption = dict.fromkeys((*CLASS_COLUMNS, *FACTORS, "mode", "reason"), "") | FOX
    rows = [caption | {"caption_id": name, "label": 0, "index": 0} for name in "ab"]
    rows[1]["caption"] = " "
    engine = PainterConfig(sd3=config(checkpoint)).engine
    good, _, bad, _ = CaptionPainter(engine, 2)(pa.Table.from_pylist(rows)).to_pylist()
    assert suffix(good["image"]) == ".jpg"
    assert decode_rgb(good["image"]).size == (good["size"], good["size"])
    assert (good["generator"], good["reason"], len(good["weights"])) == ("sd3", "", 32)
    assert (bad["image"], bad["reason"]) == (b"", "empty caption")
