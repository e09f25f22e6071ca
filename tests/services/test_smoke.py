"""The smoke recipe whole: submitted to three nodes without a shared disk, on S3 and PostgreSQL."""

import json
from pathlib import Path

import pytest

from cluster.artifacts import open_artifact
from tests.services.cluster import Cluster
from tests.services.database import PASSWORD
from tests.services.object_store import ObjectStore
from tests.services.smoke import RECIPE, folders, start_on_disk, tables

pytestmark = pytest.mark.ray
MOST_REQUESTS = 1500
"""To the object store, of the whole recipe."""


def test_services_and_nodes_make_what_one_machine_does(
    nodes: Cluster, store: ObjectStore, studies: str, tmp_path: Path
) -> None:
    """To the last digit: results, trials and fits."""
    here = start_on_disk(tmp_path)
    before, storage = store.requests(), store.uri("smoke")
    settings = (*RECIPE, "--storage", storage, "--studies", studies)
    job = nodes.submit("jobs.demo", *settings, log=tmp_path / "job")
    assert job.wait(timeout=900) == 0, (tmp_path / "job").read_text()[-5000:]
    requests = store.requests() - before
    print(f"requests: {dict(requests)}")
    assert requests.total() < MOST_REQUESTS
    assert here.wait(timeout=900) == 0, (tmp_path / "log").read_text()[-5000:]
    assert tables(storage) == tables(str(tmp_path))
    (adapted,) = folders(storage, "adapted")
    assert PASSWORD not in json.dumps(open_artifact(adapted, "adapted").manifest.config)
    assert sum(bool(names) for names in nodes.caches().values()) > 1, "one node did it all"
