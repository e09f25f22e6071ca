"""Readers of models: saved ones with their cards, weights of CLIPs, ImagineFSL's own files."""

import io
import json
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from actors.pictures.codec import png_bytes
from actors.search.predictor import Predictor, open_model
from jobs.bench.fuzz.children import Reader
from models.backbones import load_clip
from models.clip import Clip
from models.dino_head import HeadConfig
from models.methods import METHODS
from models.methods.adapted import CARD, TENSORS
from models.moment_adapter import AdapterConfig, MomentAdapter
from models.moment_dino import Branch, MomentDinoConfig
from models.released.fine_tuned import FineTunedConfig, read_fine_tuned
from models.released.teacher import read_teacher, write_teacher
from models.task import Features, Task
from models.text_classifier import text_classifier
from models.weights import read_state

NAMES = ["okapi", "red panda", "ant"]
METHODS_SAVED: dict[str, dict[str, Any]] = {
    "zero_shot": {},
    "linear_probe": {},
    "tip_adapter": {},
    "fsnl": {"epochs": 1},
}
"""Method to its hyper-parameters, of the models that are saved."""
HEADS = 2
ADAPTER = AdapterConfig(depth=1, inner=8, heads=HEADS)


@cache
def _clip() -> Clip:
    return load_clip("tiny")


@cache
def _models() -> list[dict[str, bytes]]:
    """The two files of a saved model of each method."""
    clip = _clip()
    shape = (1, len(NAMES), clip.num_tokens, clip.embed_dim)
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    task = Task(
        dataset="animals",
        names=NAMES,
        hint="animal",
        template="a photo of a {}.",
        train=Features(tokens.half(), torch.arange(len(NAMES))),
        val=None,
        imagined=None,
        clip=clip,
        text=text_classifier(clip, NAMES, ["a photo of a {}."]),
    )
    models = []
    for name, hyper in METHODS_SAVED.items():
        with tempfile.TemporaryDirectory() as folder:
            METHODS[name].fit(task, METHODS[name].Hyper(**hyper), seed=0).save(folder)
            models.append({file: Path(folder, file).read_bytes() for file in (TENSORS, CARD)})
    return models


def _saved(file: str) -> Reader:
    """A file of a saved model, beside the other one of the method that it seems to be of."""
    models = _models()
    picture = png_bytes(Image.linear_gradient("L").convert("RGB"))

    def read(data: bytes, folder: Path) -> None:
        alike = [sum(a == b for a, b in zip(data, model[file], strict=False)) for model in models]
        for name, content in (models[alike.index(max(alike))] | {file: data}).items():
            (folder / name).write_bytes(content)
        (folder / "picture.png").write_bytes(picture)
        Predictor(open_model(folder))([str(folder / "picture.png")])

    return Reader([model[file] for model in models], read)


def cards() -> Reader:
    """Cards of saved models."""
    return _saved(CARD)


def saved_tensors() -> Reader:
    """Tensors of saved models."""
    return _saved(TENSORS)


def clip_configs() -> Reader:
    """The config beside the weights of a CLIP in a local file."""
    clip = _clip()
    state = save({name: t.contiguous() for name, t in clip.model.state_dict().items()})

    def read(data: bytes, folder: Path) -> None:
        (folder / "clip.safetensors").write_bytes(state)
        (folder / "clip.json").write_bytes(data)
        load_clip(f"config:{folder / 'clip.safetensors'}")

    return Reader([json.dumps(clip.config).encode()], read, (ValueError,))


def _torch_bytes(content: Any, **options: Any) -> bytes:
    torch.save(content, buffer := io.BytesIO(), **options)
    return buffer.getvalue()


def _file_reader(inputs: list[bytes], read: Callable[[Path], object]) -> Reader:
    def read_bytes(data: bytes, folder: Path) -> None:
        (folder / "weights.pth").write_bytes(data)
        read(folder / "weights.pth")

    return Reader(inputs, read_bytes, (ValueError,))


def weights() -> Reader:
    """Weights of any program: PyTorch's formats, TorchScript's, safetensors."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is no longer made, but lies about
        torch.jit.save(torch.jit.trace(module.eval(), torch.zeros(2, 4)), script := io.BytesIO())
    inputs = [
        _torch_bytes(state),
        _torch_bytes({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}),
        _torch_bytes(state, _use_new_zipfile_serialization=False),
        script.getvalue(),
        save(state),
    ]
    return _file_reader(inputs, read_state)


def teachers() -> Reader:
    """ImagineFSL's `teacher_checkpoint.pth`."""
    clip, head = _clip(), HeadConfig(prototypes=8, hidden=8, bottleneck=4)
    torch.manual_seed(0)
    branch = Branch(clip, MomentDinoConfig(adapter=ADAPTER, dino_head=head, ibot_head=head))
    with tempfile.TemporaryDirectory() as folder:
        write_teacher(path := Path(folder, "teacher.pth"), branch.state_dict(), clip)
        data = path.read_bytes()
    return _file_reader([data], lambda path: read_teacher(path, clip, HEADS))


def fine_tuned_files() -> Reader:
    """ImagineFSL's fine-tuned adapter and heads, one file of the three at a time."""
    clip, rng = _clip(), torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng) / 4

    dim, count = clip.embed_dim, len(NAMES)
    blocks = MomentAdapter(dim, ADAPTER).state_dict()
    files = {
        "adapter": {f"adapter.{name}": drawn(*t.shape) for name, t in blocks.items()},
        "linear": {"linear.weight": drawn(count, 4 * dim), "linear.bias": drawn(count)},
        "text_classifier": {
            "text_classifier.weight": drawn(count, dim),
            "text_classifier.bias": drawn(count),
        },
    }
    good = {name: _torch_bytes(state) for name, state in files.items()}

    def read(path: Path) -> None:
        data = path.read_bytes()
        role = next((name for name in good if f"{name}.".encode() in data), "linear")
        for name in good:
            (path.parent / name).write_bytes(data if name == role else good[name])
        read_fine_tuned(
            FineTunedConfig(
                adapter=str(path.parent / "adapter"),
                visual_head=str(path.parent / "linear"),
                text_head=str(path.parent / "text_classifier"),
                names=NAMES,
                fusion_weight=0.3,
                log_temperature=4.5,
                dataset="animals",
            ),
            clip,
            HEADS,
        )

    return _file_reader(list(good.values()), read)
