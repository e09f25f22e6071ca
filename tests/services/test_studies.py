"""Databases keep the trials of a search as its journal does."""

from pathlib import Path
from random import Random

import pytest

from actors.search.databases import require_answer
from cluster.errors import ConfigError
from tests.actors.search.test_studies import run, tried
from tests.services.database import PASSWORD

DATABASES = pytest.mark.parametrize("database", ["studies", "studies_of_mariadb"])


@DATABASES
def test_a_search_that_was_killed_ends_in_a_database_as_an_unbroken_one_in_a_journal(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(database)
    run(url, Random(1), stop_after=5)
    run(url, Random(0))
    run(tmp_path, Random(0))
    assert tried(url) == tried(tmp_path)


@DATABASES
def test_a_database_that_is_not_there_is_one_line(
    database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(database)
    with pytest.raises(
        ConfigError, match=r"^studies: .* cannot be used \(.*; allowed: a d"
    ) as told:
        require_answer(f"{url}_of_others")
    assert PASSWORD not in str(told.value)
    assert "\n" not in str(told.value)
