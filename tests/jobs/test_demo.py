"""The demo's recipes load; what it cannot run it refuses in one line."""

import math
import subprocess
import sys

import pytest
import yaml
from jsonargparse import auto_cli

from actors.search.cells import declared_cells
from cluster.catalog.dataset import DATASETS
from jobs.demo import RECIPE, DemoConfig
from jobs.evaluate import EvaluateConfig
from jobs.pretrain import PretrainConfig
from jobs.search import SearchConfig
from models.methods import METHODS


@pytest.mark.parametrize("recipe", ["demo", "smoke"])
def test_every_recipe_of_the_demo_loads(recipe: str) -> None:
    path = RECIPE.parent / f"{recipe}.yaml"
    cfg = auto_cli(DemoConfig, args=["--config", str(path)], as_positional=False)
    assert {"zero-shot", "fsnl", "imaginefsl", "imaginefsl-scratch"} <= set(cfg.methods)
    assert cfg.methods["imaginefsl"].space == cfg.methods["imaginefsl-scratch"].space
    assert len(cfg.seeds) >= 2


def test_the_whole_table_has_every_method_and_every_dataset() -> None:
    path = RECIPE.parent / "embedded_table.yaml"
    cfg = auto_cli(EvaluateConfig, args=["--config", str(path)], as_positional=False).search
    assert {config.method for config in cfg.methods.values()} == set(METHODS)
    assert tuple(cfg.world.datasets) == DATASETS
    list(declared_cells(list(DATASETS), cfg.methods, {}))  # raises on a bad hyper-parameter


def test_the_search_on_the_whole_world_is_declared() -> None:
    """On the command line: a parser that ends the process at a value of another type once did not
    let a choice through."""
    path = RECIPE.parent / "embedded_search.yaml"
    command = [sys.executable, "-m", "jobs.search", "--config", str(path), "--print_config"]
    told = yaml.safe_load(subprocess.run(command, capture_output=True, check=True).stdout)
    assert told["world"]["datasets"] == list(DATASETS)
    assert told["methods"]["imaginefsl"]["space"]["steps"] == {"choices": [5, 10, 20, 40]}


def test_the_original_grid_is_a_space() -> None:
    given = ["--storage=x", "--datasets=[]", "--features=[]"]
    path = RECIPE.parent / "original_grid.yaml"
    cfg = auto_cli(SearchConfig, args=["--config", str(path), *given], as_positional=False)
    (method,) = cfg.methods.values()
    cells = list(declared_cells(["animals"], cfg.methods, {}))
    assert [cell.shots for cell in cells] == [1, 2, 4, 8, 16]
    points = math.prod(len(space.choices) for space in method.space.values())
    assert points == method.trials == 32


def test_the_demo_pretrains_as_its_recipe_for_pretraining_says() -> None:
    demo, tiny = (
        auto_cli(kind, args=["--config", str(RECIPE.parent / name)], as_positional=False)
        for kind, name in ((DemoConfig, "demo.yaml"), (PretrainConfig, "tiny.yaml"))
    )
    assert demo.pretrainer == tiny.pretrainer


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--datasets", "[animals, nope]"], "datasets"),
        (["--capions_per_class", "3"], "capions_per_class"),
        (["--pool.workers", "0"], "pool.workers"),
        (["--storage", "/proc/nothing/here"], "storage"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "jobs.demo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "Traceback" not in done.stderr
