"""Every recipe is taken by the command that its first comment names; every part is in a recipe."""

import ast
import dataclasses
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import auto_cli

from actors.embedded.concepts import DATASETS
from actors.search.cells import MethodConfig, declared_cells
from cluster.job import OneLineParser
from jobs.bench.__main__ import BENCHES
from jobs.pretrain import PretrainConfig

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "jobs" / "recipes"
PARTS = RECIPES / "parts"
WHOLE = sorted(RECIPES.glob("*.yaml"))


def name(path: Path) -> str:
    return str(path.relative_to(RECIPES))


@cache
def loaded(recipe: str) -> Any:
    """The config of jobs/recipes/{recipe}, as the command in its comment makes it."""
    module, arguments = command(RECIPES / recipe)
    # A measurement's command names it first, and its config is in the list of measurements.
    config = BENCHES[arguments.pop(0)][0] if module == "jobs.bench" else config_type(module)
    return auto_cli(config, args=arguments, as_positional=False, parser_class=OneLineParser)


def command(recipe: Path) -> tuple[str, list[str]]:
    """Module and arguments of the command in the first comment, its placeholders filled."""
    comments = [
        line.removeprefix("#").strip()
        for line in recipe.read_text("utf-8").splitlines()
        if line.startswith("#")
    ]
    commands = [line for line in comments if line.startswith("python -m jobs.")]
    assert commands, f"{name(recipe)}: its first comment names no command, python -m jobs.…"
    _, _, module, *arguments = shlex.split(commands[0].replace("…", "x"))
    where = arguments.index("--config") + 1
    told = arguments[where]
    assert told == f"jobs/recipes/{name(recipe)}", f"{name(recipe)}: its command loads {told}"
    arguments[where] = str(recipe)  # typed at the root of the checkout
    return module, arguments


def config_type(module: str) -> type:
    """What the job parses its command line into: the first argument of its `run_job`."""
    job = import_module(module)
    assert job.__file__ is not None
    calls = [
        node.args[0].id
        for node in ast.walk(ast.parse(Path(job.__file__).read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "run_job"
        and isinstance(node.args[0], ast.Name)
    ]
    (config,) = calls
    return getattr(job, config)


def methods(config: Any) -> Iterator[dict[str, MethodConfig]]:
    """The lines of result tables, wherever a config has them."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from methods(value)
        elif isinstance(value, dict) and any(isinstance(v, MethodConfig) for v in value.values()):
            yield value


def test_the_recipes_are_found() -> None:
    assert {"demo.yaml", "tiny.yaml", "embedded_table.yaml"} <= {name(path) for path in WHOLE}
    files = {path for path in RECIPES.rglob("*") if path.is_file()}
    assert files == {*WHOLE, *PARTS.glob("*.yaml")}


@pytest.mark.parametrize("recipe", WHOLE, ids=name)
def test_the_command_in_a_recipes_comment_accepts_it(recipe: Path) -> None:
    config = loaded(name(recipe))
    for lines in methods(config):
        list(declared_cells(list(DATASETS), lines, {}))  # raises on a bad hyper-parameter
    if isinstance(config, PretrainConfig):
        assert config.pretrainer.batch_size % config.pool.workers == 0
        assert bool(config.pool.gpus) == (config.backbone != "tiny"), "the tiny CLIP needs no GPU"


@pytest.mark.parametrize("part", sorted(PARTS.glob("*.yaml")), ids=name)
def test_every_part_is_in_a_recipe_that_is_loaded(part: Path) -> None:
    def named_in(path: Path) -> bool:
        values = _strings(yaml.safe_load(path.read_text("utf-8")))
        return any((path.parent / value).resolve() == part for value in values)

    users = [path for path in (*WHOLE, *PARTS.glob("*.yaml")) if named_in(path)]
    assert users, f"{name(part)}: no recipe names it"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
