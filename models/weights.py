"""Weights from files of any program: tensors by name, and nothing but tensors.

Files come from outside. Only tensors are unpickled, a file that asks for far more memory than it
has bytes is refused, and so are numbers that are not finite. What a file is told apart by is its
first bytes, for its name may be wrong.
"""

import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from os.path import isfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

State = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training programs save a model's tensors beside other things."""
GROWTH, SLACK = 8, 2**20
"""A file's tensors may take so many times its bytes as float32, and these more: 8-bit numbers take
4 times as much, tied weights twice."""
DEPTH = 32
"""Modules in modules of a TorchScript file."""
_SCRIPT_LISTS = (
    "build_intlist",
    "build_doublelist",
    "build_boollist",
    "build_tensorlist",
    "restore_type_tag",
)
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_SEEMS = {
    b"version https://git-lfs": "a pointer of git-lfs; allowed: the file itself (git lfs pull)",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "an XML file",
    b"\x1f\x8b": "a compressed archive",
    b"gguf": "a GGUF file",
    b"\x89hdf": "an HDF5 file",
    b"{": "a JSON file",
    b"[": "a JSON file",
}


def read_state(path: Path) -> State:
    """The tensors of a file, finite, as they were saved, without "module." in front of all names.

    Safetensors, PyTorch's files and TorchScript's; also wrapped in one of WRAPPERS. Raises
    ValueError, in one line that names the file.
    """
    return plain_state(path, unwrapped(read_file(path)))


def read_file(path: Path) -> Any:
    """What a file of weights holds, unchecked: tensors by name, or mappings of them by key.

    Raises ValueError, in one line that names the file and what it seems to be.
    """
    if not isfile(path):  # Path's raises on a name that is too long
        raise ValueError(f"no file {path}")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ValueError(f"{path} is empty")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return read_safetensors(path)
    start = head.lstrip().lower()
    if seems := next((what for magic, what in _SEEMS.items() if start.startswith(magic)), ""):
        raise ValueError(f"{path} is {seems}")
    if path.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80")):
        return read_safetensors(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is refused anyway
        return _torch_file(path)


def read_safetensors(path: Path) -> State:
    """All tensors of a safetensors file; ValueError if it is none, or holds what is not finite."""
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no safetensors file, or damaged") from error
    require_finite(str(path), state)
    return state


def unwrapped(content: Any) -> Any:
    """The mapping of tensors inside WRAPPERS, or the content where there is none."""
    for _ in WRAPPERS:
        values = (content.get(key) for key in WRAPPERS) if isinstance(content, Mapping) else ()
        inner = next((value for value in values if isinstance(value, Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def plain_state(path: Path, content: Any) -> State:
    """Tensors by name out of what a file holds. Raises ValueError, naming the file and the tensors.

    Refused are other values, tensors without numbers of their own (meta, sparse, nested, quantised,
    one number for a million places), too many of them for the file's size, names that are twice
    there, and numbers that are not finite.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; allowed: tensors by name")
    if not content:
        raise ValueError(f"{path} holds no tensors")
    if others := sorted(str(k) for k, value in content.items() if not isinstance(value, Tensor)):
        raise ValueError(f"{path}: {_few(others)} are no tensors")
    if odd := sorted(str(key) for key, tensor in content.items() if not _is_plain(tensor)):
        raise ValueError(
            f"{path}: {_few(odd)} are no plain numbers, but meta, sparse, nested, "
            "quantised, complex or expanded"
        )
    state = {str(key).removeprefix("module."): tensor for key, tensor in content.items()}
    if len(state) < len(content):
        raise ValueError(f"{path} has keys with and without module. in front")
    _require_room(path, sum(4 * tensor.numel() for tensor in state.values()))
    require_finite(str(path), state)
    return state


def require_finite(where: str, state: Mapping[str, Tensor]) -> None:
    """Raises ValueError, naming the tensors, if any holds infinite numbers or NaN."""
    if broken := not_finite(state):
        raise ValueError(f"{where}: {_few(broken)} hold infinite numbers or NaN")


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names, in order, of the tensors that hold infinite numbers or NaN."""
    return sorted(name for name, t in state.items() if not t.float().isfinite().all())


def _require_room(path: Path, wanted: int) -> None:
    size = path.stat().st_size
    if wanted > GROWTH * size + SLACK:
        raise ValueError(f"{path} asks for {wanted} bytes of memory and has {size}")


def _few(names: list[str]) -> str:
    return f"{names[:5]}{'' if len(names) <= 5 else f' and {len(names) - 5} more'}"


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_complex())
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _torch_file(path: Path) -> Any:
    if _is_script(path):
        try:
            with zipfile.ZipFile(path) as archive:
                return _torch_script(archive)
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path} is refused, it holds more than tensors") from error
    try:
        with path.open("rb") as file:  # of a path, torch looks at the name
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is refused, it holds more than tensors or is damaged") from error
    except Exception as error:  # what the reader of a foreign file may meet has no list
        raise ValueError(f"{path} is no checkpoint of PyTorch, or damaged") from error


def _is_script(path: Path) -> bool:
    """Whether a file is TorchScript's; ValueError if it is an archive that is damaged, or whose
    files take too much room."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
    except Exception as error:  # what the reader of a foreign file may meet has no list
        raise ValueError(f"{path} is no checkpoint of PyTorch, or damaged") from error
    _require_room(path, sum(file.file_size for file in files))
    return any(file.filename.endswith("/constants.pkl") for file in files)


def _torch_script(archive: zipfile.ZipFile) -> State:
    """The parameters and buffers of a TorchScript module; none of its code is run.

    Its `data.pkl` is a pickle of modules (their attributes) and tensors. Raises UnpicklingError if
    anything else is in it.
    """
    entry = next((name for name in archive.namelist() if name.endswith("/data.pkl")), "")
    if not entry:
        raise pickle.UnpicklingError("no data.pkl")
    try:
        module = _reader(archive, entry.removesuffix("data.pkl")).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # what the reader of a foreign file may meet has no list
        raise pickle.UnpicklingError(str(error)) from error
    if not hasattr(module, "__dict__"):
        raise pickle.UnpicklingError("no module")
    return _attributes(module, DEPTH)


def _reader(archive: zipfile.ZipFile, root: str) -> pickle.Unpickler:
    """An unpickler that makes tensors, lists and `_Module`s, and knows no other name."""

    class Module:
        """Attributes of a module, whatever its class is called."""

    def tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        return storage.as_strided(tuple(size), tuple(stride), offset)

    def first(value: Any, *_: Any) -> Any:
        return value

    known: dict[tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): lambda *_: OrderedDict(),
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        **{("torch.jit._pickle", name): first for name in _SCRIPT_LISTS},
    }

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module == "__torch__" or module.startswith("__torch__."):
                return Module
            if module == "torch" and name in _STORAGES:
                return _STORAGES[name]
            if (module, name) not in known:
                raise pickle.UnpicklingError(f"{module}.{name}")
            return known[module, name]

        def persistent_load(self, key: Any) -> Tensor:
            _, dtype, name, _, numel = key
            data = bytearray(archive.read(f"{root}data/{name}"))
            storage = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            return storage[:numel]

    return Reader(archive.open(f"{root}data.pkl"))


def _attributes(module: Any, depth: int, prefix: str = "") -> State:
    """Tensors among the attributes of a module and of the modules in it, by dotted name."""
    state: State = {}
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            state[prefix + name] = value
        elif type(value) is type(module):
            if not depth:
                raise pickle.UnpicklingError("modules without end")
            state |= _attributes(value, depth - 1, f"{prefix}{name}.")
    return state
