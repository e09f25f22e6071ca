"""What the recipes of the demo and of the tables hold; bad settings of the demo are one line."""

import math

import pytest

from actors.embedded.concepts import DATASETS
from actors.search.cells import Choice, declared_cells
from models.methods import METHODS
from tests.command_line import run_module
from tests.test_recipes import loaded


@pytest.mark.parametrize("recipe", ["demo", "smoke"])
def test_the_demo_compares_with_and_without_pretraining(recipe: str) -> None:
    cfg = loaded(f"{recipe}.yaml")
    assert {"zero-shot", "fsnl", "imaginefsl", "imaginefsl-scratch"} <= set(cfg.methods)
    assert cfg.methods["imaginefsl"].space == cfg.methods["imaginefsl-scratch"].space
    assert len(cfg.seeds) >= 2


def test_the_whole_table_has_every_method_and_every_dataset() -> None:
    cfg = loaded("embedded_table.yaml").search
    assert {config.method for config in cfg.methods.values()} == set(METHODS)
    assert tuple(cfg.world.datasets) == DATASETS


def test_the_search_on_the_whole_world_is_declared() -> None:
    """By the parser of the command line: one that ended the process at a value of another type once
    did not let a choice through."""
    cfg = loaded("embedded_search.yaml")
    assert tuple(cfg.world.datasets) == DATASETS
    assert cfg.methods["imaginefsl"].space["steps"] == Choice(choices=[5, 10, 20, 40])


def test_the_original_grid_is_a_space() -> None:
    cfg = loaded("original_grid.yaml")
    (method,) = cfg.methods.values()
    cells = list(declared_cells(["animals"], cfg.methods, {}))
    assert [cell.shots for cell in cells] == [1, 2, 4, 8, 16]
    points = math.prod(len(space.choices) for space in method.space.values())
    assert points == method.trials == 32


def test_the_demo_pretrains_as_its_recipe_for_pretraining_says() -> None:
    assert loaded("demo.yaml").pretrainer == loaded("tiny.yaml").pretrainer


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--datasets", "[animals, nope]"], "datasets"),
        (["--captions_per_class", "3"], "captions_per_class is now writer.per_class"),
        (["--pool.workers", "0"], "pool.workers"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    check_refusal(arguments, said)


def test_a_storage_that_cannot_be_written_is_one_line_and_exit_code_2(local_ray: None) -> None:
    check_refusal(["--storage", "/proc/nothing/here"], "storage")


def check_refusal(arguments: list[str], said: str) -> None:
    done = run_module("jobs.demo", *arguments)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "Traceback" not in done.stderr
