"""pyproject.toml against the imports: what is used is required, and what is required is used."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDERS = ("jobs", "actors", "models", "kernels", "cluster")
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
