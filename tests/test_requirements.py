"""pyproject.toml against the imports and the locks: what is used is required, and the other way."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FOLDERS = ("jobs", "actors", "models", "kernels", "cluster")
LOCK = ROOT / "requirements.lock"
ENGINE_LOCK = ROOT / "requirements-vllm.lock"
VLLM_LOCK = ROOT / "tests" / "vllm" / "requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
EXTRAS = {
    canonicalize_name(Requirement(line).name)
    for lines in PROJECT["optional-dependencies"].values()
    for line in lines
}
DISTRIBUTIONS = packages_distributions()  # slow, it reads the records of everything installed
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of third parties that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - set(FOLDERS)


def distributions(name: str) -> set[str]:
    return {canonicalize_name(d) for d in DISTRIBUTIONS.get(name, [name])}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_imported_is_required(path: Path) -> None:
    allowed = REQUIRED | EXTRAS
    assert {name for name in imported(path) if not distributions(name) & allowed} == set()


def test_what_is_required_is_used() -> None:
    """Imported, or (packages of data) named where their files are read."""
    source = "".join(path.read_text("utf-8") for path in FILES)
    unused = REQUIRED - {d for path in FILES for n in imported(path) for d in distributions(n)}
    assert [name for name in unused if f'"{name.replace("-", "_")}"' not in source] == []


def locked(path: Path) -> dict[str, str]:
    """Version of each package that a lock file pins; every line of it pins one."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    pins = [re.fullmatch(r"([a-z0-9-]+)==(\S+)", line) for line in lines]
    assert all(pins), [line for line, pin in zip(lines, pins, strict=True) if not pin]
    return {pin[1]: pin[2] for pin in pins if pin}


def wanted(lines: list[str]) -> list[Requirement]:
    """Requirements with those of this project's own extras in their place."""
    found = []
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            for extra in requirement.extras:
                found += wanted(PROJECT["optional-dependencies"][extra])
        else:
            found.append(requirement)
    return found


def test_the_lock_has_a_version_of_every_requirement_that_its_bounds_allow() -> None:
    versions = locked(LOCK)
    extras = PROJECT["optional-dependencies"]
    required = wanted(PROJECT["dependencies"] + extras["dev"] + extras["gpu"])
    assert len(required) > len(PROJECT["dependencies"])
    for requirement in required:
        version = versions[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} has {version}: `make lock`"


def test_vllms_environment_has_the_same_ray() -> None:
    lines = (ROOT / "tests" / "vllm" / "requirements.txt").read_text().splitlines()
    versions = locked(VLLM_LOCK)
    for requirement in wanted([line for line in lines if not line.startswith("#")]):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier
    assert versions["ray"] == locked(LOCK)["ray"]


def test_the_lock_of_vllms_engines_has_a_vllm_that_the_bounds_allow_and_the_same_ray() -> None:
    versions = locked(ENGINE_LOCK)
    (vllm,) = map(Requirement, PROJECT["optional-dependencies"]["vllm"])
    assert versions["vllm"] in vllm.specifier
    assert versions["ray"] == locked(LOCK)["ray"]


@pytest.mark.parametrize(("name", "oldest"), [("torch", "2.10"), ("pillow", "12.3")])
def test_parsers_of_foreign_files_are_none_with_known_holes(name: str, oldest: str) -> None:
    """In the bounds and in all locks."""
    (bound,) = [r for r in wanted(PROJECT["dependencies"]) if r.name == name]
    assert f">={oldest}" in str(bound.specifier)
    for lock in (LOCK, ENGINE_LOCK, VLLM_LOCK):
        assert Version(locked(lock)[name]) >= Version(oldest)
