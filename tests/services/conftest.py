"""Services that the tests of this folder share; each is started when the first test asks for it."""

from collections.abc import Iterator

import pytest

from tests.services.cluster import Cluster, cluster
from tests.services.database import mariadb, postgresql
from tests.services.object_store import ObjectStore, object_store


@pytest.fixture(scope="session")
def store() -> Iterator[ObjectStore]:
    """The keys are in the environment of this process, too."""
    with object_store() as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        yield store


@pytest.fixture(scope="session")
def studies() -> Iterator[str]:
    """URL of a database of PostgreSQL."""
    with postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def studies_of_mariadb() -> Iterator[str]:
    """URL of a database of MariaDB."""
    with mariadb() as url:
        yield url


@pytest.fixture(scope="session")
def nodes(store: ObjectStore) -> Iterator[Cluster]:
    with cluster(store.env) as nodes:
        yield nodes
