"""Files of weights as people have them: what is meant is read, the rest is one line."""

import os
import pickle
import resource
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.backbones import load_clip
from models.weights import read_state

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2, dtype=torch.half)}
MEMORY = 2**31
"""Bytes by which reading a small file may not grow this process."""


def same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return actual.keys() == expected.keys() and all(
        torch.equal(tensor, expected[name]) and tensor.dtype == expected[name].dtype
        for name, tensor in actual.items()
    )


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"model": STATE},
        {"state_dict": STATE, "epoch": 3, "optimizer": {"state": {}}},
        {"model_state_dict": {f"module.{name}": t for name, t in STATE.items()}},
        {"model": {"state_dict": STATE}},
        {name: nn.Parameter(tensor) for name, tensor in STATE.items()},
    ],
    ids=["plain", "model", "state_dict", "model_state_dict", "twice", "parameters"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_is_found_in_its_wrapping(tmp_path: Path, content: Any, zipped: bool) -> None:
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    assert same(read_state(tmp_path / "w.pt"), STATE)


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors_are_known_by_what_is_in_them(tmp_path: Path, name: str) -> None:
    save_file({f"module.{key}": tensor for key, tensor in STATE.items()}, tmp_path / name)
    assert same(read_state(tmp_path / name), STATE)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2).half()
        self.scale = nn.Parameter(torch.tensor(4.6))
        self.register_buffer("count", torch.arange(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale


def test_a_torch_script_gives_its_weights_and_runs_nothing(tmp_path: Path) -> None:
    module = nn.Sequential(Block(), nn.Sequential(nn.Conv2d(3, 2, 1), Block()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and OpenAI's files are what they are
        torch.jit.script(module).save(tmp_path / "w.pt")
    assert same(read_state(tmp_path / "w.pt"), dict(module.state_dict()))


class Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made by a file of weights",)


def script_of(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w/constants.pkl", b"")
            archive.writestr("w/data.pkl", content)

    return write


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}.")
        archive.writestr("w/data/0", bytes(10**8))


def saved(content: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **options)


def written(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


SHARED = torch.zeros(10**4)
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (written(b""), "is empty"),
    "lfs": (
        written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "is a pointer of git-lfs; allowed: the file itself",
    ),
    "html": (written(b"\n<!DOCTYPE html>\n<html></html>"), "is a web page"),
    "json": (written(b'{"error": "not found"}'), "is a JSON file"),
    "text": (written(b"weights\n" * 9), "is (refused|no safetensors file).* damaged"),
    "pickle": (written(pickle.dumps({"a": 1})), "is refused"),
    "code": (saved({"a": Code()}), "is refused, it holds more than tensors"),
    "module": (saved(nn.Linear(2, 2)), "is refused, it holds more than tensors"),
    "script with code": (script_of(pickle.dumps(Code(), 2)), "is refused, it holds more than"),
    "script of a list": (script_of(pickle.dumps([1], 2)), "is refused, it holds more than"),
    "script of nothing": (script_of(b""), "is refused, it holds more than"),
    "tensor": (saved(torch.zeros(2)), "holds a Tensor; allowed: tensors by name"),
    "list": (saved([torch.zeros(2)]), "holds a list"),
    "nothing": (saved({}), "holds no tensors"),
    "texts": (saved({"a": "b"}), r"\['a'\] are no tensors"),
    "meta": (saved({"a": torch.zeros(2 * 10**9, device="meta")}), r"\['a'\] are no plain numbers"),
    "expanded": (saved({"a": torch.zeros(1).expand(2 * 10**9)}), "are no plain numbers"),
    "expanded, before zips": (
        saved({"a": torch.zeros(1).expand(2 * 10**9)}, _use_new_zipfile_serialization=False),
        "are no plain numbers",
    ),
    "sparse": (
        saved({"a": torch.zeros(2).to_sparse()}),
        "are no plain numbers",
    ),
    "nested": (
        saved({"a": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}),
        "are no plain numbers",
    ),
    "quantised": (
        saved({"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)}),
        "are no plain numbers",
    ),
    "complex": (saved({"a": torch.tensor([1j])}), "are no plain numbers"),
    "shared": (saved({f"a{i}": SHARED for i in range(2000)}), "asks for 80000000 bytes of memory"),
    "bomb": (bomb, "asks for 100000004 bytes of memory"),
    "nan": (saved({"a": torch.tensor([1.0, float("nan")])}), r"\['a'\] hold infinite .* or NaN"),
    "infinite": (saved({"model": {"a": torch.tensor(float("-inf"))}}), "hold infinite"),
    "infinite safetensors": (
        lambda path: save_file({"a": torch.tensor([float("inf")])}, path),
        "hold infinite",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_what_holds_no_weights_is_one_line(tmp_path: Path, name: str, ending: str) -> None:
    write, message = BAD[name]
    path = tmp_path / f"w.{ending}"
    write(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message) as refused:
        read_state(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MEMORY
    assert not Path("made by a file of weights").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_one_line(tmp_path: Path, share: float) -> None:
    torch.save(STATE, tmp_path / "w.pt")
    save_file(STATE, tmp_path / "w.safetensors")
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ValueError, match="damaged"):
            read_state(path)


def test_a_zip_that_spans_disks_is_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    data = (tmp_path / "w.pt").read_bytes()
    end, locator = data[-22:], b"PK\6\7" + bytes(12) + (9).to_bytes(4, "little")
    (tmp_path / "w.pt").write_bytes(data[:-22] + locator + end)
    with pytest.raises(ValueError, match=r"w.pt is no checkpoint of PyTorch, or damaged"):
        read_state(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/w.pt", "w\0.pt"])
def test_a_name_that_cannot_be_is_no_file(name: str) -> None:
    with pytest.raises(ValueError, match="no file"):
        read_state(Path(name))
    for arch in ("config", "ViT-B-32"):
        with pytest.raises(ValueError, match=f"backbone: '{arch}:.*no file"):
            load_clip(f"{arch}:{name}")
