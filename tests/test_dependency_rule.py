"""The arrows between the folders: jobs, actors, models, kernels; jobs and actors use cluster."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "jobs": {"jobs", "actors", "models", "kernels", "cluster"},
    "actors": {"actors", "models", "kernels", "cluster"},
    "models": {"models", "kernels"},
    "kernels": {"kernels"},
    "cluster": {"cluster"},
}
ROOMS = {
    "embedded": {"pictures"},
    "pictures": set(),
    "synthesis": {"embedded", "pictures"},
    "features": {"pictures"},
    "pretraining": {"pictures"},
    "curation": {"features", "pictures"},
    "search": {"features", "pretraining", "pictures"},
    "discovery": {"search", "features", "pictures"},
    "local": {"search", "features", "embedded", "pictures"},
}
"""Rooms of actors/, and the rooms that each may use besides itself."""
TENSOR_LIBRARIES = {"torch", "triton", "xformers"}
FORBIDDEN_NAMES = {"utils", "util", "misc", "common", "helpers"}


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert len(found) > 1, f"nothing to look at in {folder}/"
    return found


def modules_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every imported module, also of those inside functions; of what is
    imported from a package also the name, which may be a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every import, each once."""
    yield from dict.fromkeys((line, name.partition(".")[0]) for line, name in modules_of(path))


def imports_of(folder: str) -> list[tuple[str, str]]:
    """Place and name of every import of a folder."""
    return [
        (f"{path.relative_to(ROOT)}:{line}", name)
        for path in modules(folder)
        for line, name in imports(path)
    ]


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_arrows_point_downwards(folder: str) -> None:
    forbidden = {*MAY_IMPORT, "tests"} - MAY_IMPORT[folder]
    assert [(where, name) for where, name in imports_of(folder) if name in forbidden] == []


def test_no_module_lies_directly_in_actors() -> None:
    assert [path.name for path in (ROOT / "actors").glob("*.py")] == ["__init__.py"]
    rooms = {path.name for path in (ROOT / "actors").iterdir() if (path / "__init__.py").exists()}
    assert rooms == ROOMS.keys()


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_between_the_rooms_of_actors(room: str) -> None:
    allowed = ROOMS[room] | {room}
    used = [
        (f"{path.relative_to(ROOT)}:{line}", name)
        for path in modules(f"actors/{room}")
        for line, name in modules_of(path)
        if name.startswith("actors.")
    ]
    assert [(where, name) for where, name in used if name.split(".")[1] not in allowed] == []


def test_the_embedded_world_does_not_know_the_catalogue() -> None:
    """It is used by the catalogue's embedded names, and must not depend on them."""
    used = [
        (path.name, name) for path in modules("actors/embedded") for _, name in modules_of(path)
    ]
    assert [(where, name) for where, name in used if name.startswith("cluster.catalog")] == []


def test_kernels_know_tensors_only() -> None:
    known = TENSOR_LIBRARIES | {"kernels"} | sys.stdlib_module_names
    assert [(where, name) for where, name in imports_of("kernels") if name not in known] == []


def test_models_know_no_ray() -> None:
    assert [(where, name) for where, name in imports_of("models") if name == "ray"] == []


@pytest.mark.parametrize("folder", [*MAY_IMPORT, "tests"])
def test_no_room_is_called_anything(folder: str) -> None:
    parts = {
        part for path in modules(folder) for part in path.relative_to(ROOT).with_suffix("").parts
    }
    assert not parts & FORBIDDEN_NAMES


def test_the_rule_sees_an_import_inside_a_function(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    import ray.data as rd\n    from models.clip import Clip\n")
    assert list(imports(path)) == [(2, "ray"), (3, "models")]


def test_a_package_called_kernels_disturbs_no_library() -> None:
    """Hugging Face's libraries look for a package of that name, with other contents."""
    lines = {
        "transformers": "from transformers import CLIPModel, CLIPTextModelWithProjection",
        "diffusers": "from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline",
        "open_clip": "import open_clip; open_clip.get_tokenizer('ViT-B-16')",
    }
    installed = [line for library, line in lines.items() if importlib.util.find_spec(library)]
    run = "; ".join(["import kernels", *installed, "print(kernels.__file__)"])
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(ROOT / "kernels" / "__init__.py")
