"""Where a search keeps its trials: what is missing is told before anything starts."""

from pathlib import Path

import pytest

from actors.search.cells import MethodConfig, declared_cells
from actors.search.databases import open_studies_storage, require_studies, shown
from actors.search.spaces import Range
from actors.search.studies import CellStudy, open_studies
from cluster.errors import ConfigError
from tests.actors.search.test_studies import outcome
from tests.command_line import run_module
from tests.processes import free_ports

S3 = "s3://bucket/runs"
RECIPE = ("--config", "jobs/recipes/smoke.yaml")
NO_DRIVER = "mssql+pymssql://user:secret@host/name"
"""Of a database whose driver no extra has."""
METHOD = MethodConfig(
    method="imaginefsl", shots=[1], space={"adapter_lr": Range(low=1e-5, high=1e-2)}, trials=4
)


def study_of(search: str, folder: Path) -> CellStudy:
    """The only cell of a search, in a database that other searches use, too."""
    cells = list(declared_cells(["toys"], {"m": METHOD}, {}))
    (study,) = open_studies(cells, [0], {}, f"sqlite:///{folder}/studies.db", search, 4, 4)
    return study


def test_searches_in_one_database_do_not_take_trials_of_each_other(tmp_path: Path) -> None:
    first = study_of("first", tmp_path)
    first.store(0, first.values(0), outcome(0.5))
    assert study_of("other", tmp_path).trials == {}
    (trial,) = study_of("first", tmp_path).trials.values()
    assert trial.value == 0.5


def test_a_store_of_objects_needs_a_place_for_the_trials(tmp_path: Path) -> None:
    require_studies(None, str(tmp_path))
    require_studies(str(tmp_path / "journal"), S3)
    require_studies(f"sqlite:///{tmp_path}/studies.db", S3)
    with pytest.raises(ConfigError, match=r"^studies: none, but storage 's3://bucket/runs' is no"):
        require_studies(None, S3)


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^studies: 'mssql.*No module named 'pymssql'\)") as told:
        require_studies(NO_DRIVER, str(tmp_path))
    assert "imagine-beyond[postgres]" in str(told.value)


@pytest.mark.parametrize(
    "url", [NO_DRIVER, "papyrus://user:secret@host/name", "postgresql://user:secret@host:port/name"]
)
def test_no_message_holds_a_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^studies: .*; allowed: postgresql") as told:
        require_studies(url, str(tmp_path))
    assert "secret" not in str(told.value)


def test_a_database_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"postgresql+psycopg://user:secret@127.0.0.1:{port}/name"
    require_studies(url, str(tmp_path))
    with pytest.raises(ConfigError, match=r"cannot be used \(.*refused") as told:
        open_studies_storage(url)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_url_is_shown_without_its_password() -> None:
    assert shown("postgresql+psycopg://user:secret@host/name") == (
        "postgresql+psycopg://user:***@host/name"
    )
    assert shown("runs/journal") == "runs/journal"
    assert shown(None) is None


@pytest.mark.parametrize(
    ("studies", "told"),
    [((), "studies: none, but storage"), (("--studies", NO_DRIVER), "studies: 'mssql")],
)
def test_the_demo_says_so_before_it_makes_anything(studies: tuple[str, ...], told: str) -> None:
    done = run_module("jobs.demo", *RECIPE, "--storage", S3, *studies)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {told}")


def test_the_demo_asks_for_its_database_before_it_makes_anything(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"postgresql+psycopg://127.0.0.1:{port}/name"
    done = run_module("jobs.demo", *RECIPE, "--storage", str(tmp_path), "--studies", url)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: studies: 'postgresql+psycopg://127.0.0.1")
    assert list(tmp_path.iterdir()) == []
