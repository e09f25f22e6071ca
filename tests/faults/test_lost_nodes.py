"""A worker node that is killed does not end a job: what is left goes on, or a new node does."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from ray.cluster_utils import Cluster

from actors.curation.critic import CriticConfig
from actors.features.encoder import EncoderConfig
from cluster.artifacts import Artifact, open_artifact
from cluster.content import plain
from cluster.pool import Pool
from jobs.curate import CurateConfig, curate
from jobs.discover import discover_all
from jobs.encode import EncodeConfig, encode
from jobs.evaluate import EvaluateConfig, evaluate
from jobs.import_ import ImportImagesConfig
from tests.actors.small_world import make_base_set, make_dataset, make_features
from tests.cluster.toy_pipeline import DiceConfig, dice
from tests.faults.test_job_kills import same
from tests.jobs import small_discovery, small_search
from tests.processes import wait_until

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
LEFT, LOST = 2, 4
"""CPUs of the driver's node, which stays, and of the other one, which most workers are on."""
ROW_WORKER = r"^ray::MapWorker\(MapBatches\(Counted\)\)\.submit"
"""Pattern of the title of a worker that makes rows."""
PAINTERS = Pool(workers=2, group="painter")
QUICK = {
    "health_check_initial_delay_ms": 200,
    "health_check_period_ms": 200,
    "health_check_failure_threshold": 3,
}
"""Ray's own settings take 15 s to notice that a node is gone."""
IMPATIENT = """
import jobs
import importlib, sys
from cluster import row_pipeline
from cluster.job import run_job

row_pipeline.STILL_SECONDS = 5.0
module, config, function = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1)
job = importlib.import_module(module)
run_job(getattr(job, config), getattr(job, function))
"""
"""A job, but where a pipeline that has lost a node stands still, it begins again after 5 s."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The driver's node; each test adds the one that it loses."""
    head = {"num_cpus": LEFT, "include_dashboard": False, "_system_config": QUICK}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # for workers of the tests' own jobs
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture
def painters(cluster: Cluster) -> Iterator[list[Any]]:
    """Two nodes with room for a worker of PAINTERS each; a test takes out of the list what it has
    lost."""
    nodes = [cluster.add_node(num_cpus=LOST, resources={"painter": 1}) for _ in range(2)]
    yield nodes
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)


class Run:
    """A job on the cluster, in a process of its own."""

    def __init__(self, cluster: Cluster, cfg: Any, function: str, storage: Path) -> None:
        self.cluster, self.storage = cluster, storage
        recipe = storage / "recipe.json"
        recipe.write_text(json.dumps(plain(cfg)))
        command = [sys.executable, "-c", IMPATIENT, type(cfg).__module__, type(cfg).__name__]
        command += [function, "--config", str(recipe), "--storage", str(storage)]
        env = {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)}
        with (storage / "stdout").open("w") as out, (storage / "stderr").open("w") as err:
            self.driver = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=err)

    def lose(self, nodes: Sequence[Any], worker: str) -> Any:
        """SIGKILL to all of the first of these nodes that has workers whose title has this pattern;
        returns the node."""
        at_work: list[Any] = []

        def look() -> bool:
            at_work[:] = [n for n in nodes if any(re.search(worker, t) for t in titles(n))]
            return bool(at_work)

        wait_until(look, self.driver)
        self.cluster.remove_node(at_work[0], allow_graceful=False)
        return at_work[0]

    def wait_for_line(self, words: str) -> None:
        wait_until(lambda: words in (self.storage / "stderr").read_text(), self.driver)

    def end(self, losses: int) -> list[str]:
        """The lines on stderr of a job that has ended well and has noticed so many losses."""
        code = self.driver.wait(timeout=300)
        text = (self.storage / "stderr").read_text()
        assert code == 0, text[-5000:]
        lines = text.splitlines()
        assert [line for line in lines if not re.match(r"[a-z][a-z0-9 ,]*: ", line)] == []
        assert sum(" is lost; " in line for line in lines) == losses, text
        for done, total in re.findall(r"(\d+)/(\d+) ", text):
            assert int(done) <= int(total), text
        printed = (self.storage / "stdout").read_text().splitlines()
        assert [line for line in printed if "raylet" in line] == []
        return lines

    def artifact(self, kind: str) -> Artifact:
        (folder,) = self.storage.glob(f"{kind}/*")
        return open_artifact(str(folder), kind)


def titles(node: Any) -> list[str]:
    """What Ray calls the worker processes of a node."""
    raylet = node.all_processes["raylet"][0].process.pid
    workers = []
    for process in psutil.Process(raylet).children(recursive=True):
        try:
            workers.append(" ".join(process.cmdline()).strip())
        except psutil.NoSuchProcess:
            continue
    return workers


def test_rows_go_on_with_what_is_left(cluster: Cluster, tmp_path: Path, local_ray: None) -> None:
    """On the driver's node and another, which have just room for one worker and what runs beside
    it; the workers that are allowed would take it all, and are more than the others' CPUs, so that
    one is on the node that is lost."""
    unbroken = dice(DiceConfig(storage=str(tmp_path / "unbroken")))
    cfg = DiceConfig(storage=str(tmp_path), seconds=0.4, pool=Pool(workers=LEFT + 2))
    left, node = (cluster.add_node(num_cpus=count) for count in (1, LOST))
    run = Run(cluster, cfg, "dice", tmp_path)
    run.lose([node], ROW_WORKER)
    run.end(losses=1)
    cluster.remove_node(left)
    made = run.artifact("images")
    assert made.read_table("rows").equals(unbroken.read_table("rows"))
    assert made.manifest.rows == unbroken.manifest.rows


def test_a_search_and_its_evaluation_go_on_with_what_is_left(
    cluster: Cluster, tmp_path: Path, local_ray: None
) -> None:
    make_features(tmp_path, make_dataset(tmp_path))
    search = small_search.config(tmp_path, "unbroken", workers=3)
    search = dataclasses.replace(search, seeds=list(range(6)))
    cfg = EvaluateConfig(storage=search.storage, search=search, pool=Pool(workers=3))
    unbroken = evaluate(cfg)
    (storage := tmp_path / "broken").mkdir()
    search = dataclasses.replace(search, storage=str(storage))
    nodes = [cluster.add_node(num_cpus=LOST) for _ in range(2)]
    run = Run(cluster, dataclasses.replace(cfg, search=search), "main", storage)
    nodes.remove(run.lose(nodes, r"^ray::ImplicitFunc\.train$"))
    run.lose(nodes, r"^ray::_Worker")
    run.end(losses=2)
    same(run.artifact("results"), unbroken)
    (folder,) = (tmp_path / "unbroken").glob("adapted/*")
    same(run.artifact("adapted"), open_artifact(str(folder), "adapted"))


def test_an_encoding_that_loses_the_only_node_with_room_waits_for_another(
    cluster: Cluster, tmp_path: Path, local_ray: None
) -> None:
    dataset = make_dataset(tmp_path, images={"train": 100, "val": 20, "test": 20})
    cfg = EncodeConfig(
        storage=str(tmp_path / "unbroken"),
        datasets=[dataset.artifact.uri],
        encoder=EncoderConfig(views=2, precision="fp32"),
        pool=Pool(workers=2, group="painter"),
    )
    (unbroken,) = encode(cfg)
    node = cluster.add_node(num_cpus=LOST, resources={"painter": 2})
    run = Run(cluster, cfg, "main", tmp_path)
    run.lose([node], r"^ray::_Worker\.run$")
    run.wait_for_line("encode: no room is left for a worker (1 CPU, 1 painter); waits for a node")
    another = cluster.add_node(num_cpus=LOST, resources={"painter": 2})
    lines = run.end(losses=1)
    cluster.remove_node(another, allow_graceful=False)
    assert run.artifact("features").manifest.files == unbroken.manifest.files
    assert re.match(r"encode: 840 images in ", lines[-1])


def test_an_import_goes_on_with_what_is_left(
    cluster: Cluster, painters: list[Any], tmp_path: Path
) -> None:
    files, picture = write_pictures(tmp_path / "pictures", count=1200)
    folder = str(tmp_path / "pictures")
    cfg = ImportImagesConfig(storage=str(tmp_path), folder=folder, name="flags", pool=PAINTERS)
    run = Run(cluster, cfg, "import_images", tmp_path)
    painters.remove(run.lose(painters, ROW_WORKER))
    run.end(losses=1)
    rows = run.artifact("images").read_table("rows")
    assert sorted(rows["file"].to_pylist()) == files
    assert set(rows["image"].to_pylist()) == {picture}
    assert set(rows["reason"].to_pylist()) == {""}


def write_pictures(folder: Path, count: int) -> tuple[list[str], bytes]:
    """One picture under many names, some kB that take some ms to read; the names in order, and the
    picture."""
    first = folder / "flag" / "0.png"
    first.parent.mkdir(parents=True)
    Image.new("RGB", (800, 800), "red").save(first)
    for number in range(1, count):
        (folder / "flag" / f"{number}.png").hardlink_to(first)
    return sorted(f"flag/{number}.png" for number in range(count)), first.read_bytes()


def test_critics_go_on_with_what_is_left(
    cluster: Cluster, painters: list[Any], tmp_path: Path, local_ray: None
) -> None:
    cfg = CurateConfig(
        storage=str(tmp_path / "unbroken"),
        base_set=make_base_set(tmp_path, per_class=120).uri,
        datasets=[make_dataset(tmp_path).artifact.uri],
        critic=CriticConfig(precision="fp32"),
        pool=PAINTERS,
    )
    unbroken = curate(dataclasses.replace(cfg, pool=Pool(workers=1)))
    run = Run(cluster, cfg, "curate", tmp_path)
    painters.remove(run.lose(painters, ROW_WORKER))
    run.end(losses=1)
    same(run.artifact("curation"), unbroken)


def test_a_discovery_goes_on_with_what_is_left(
    cluster: Cluster, tmp_path: Path, local_ray: None
) -> None:
    make_features(tmp_path, make_dataset(tmp_path))
    cfg = small_discovery.config(tmp_path, "unbroken", seeds=[0, 1, 2])
    unbroken = discover_all(cfg)
    cfg = dataclasses.replace(cfg, pool=Pool(workers=LEFT + 1))
    (storage := tmp_path / "broken").mkdir()
    node = cluster.add_node(num_cpus=LOST)
    run = Run(cluster, cfg, "discover_all", storage)
    run.lose([node], r"^ray::_Worker\.run$")
    run.end(losses=1)
    same(run.artifact("discovery"), unbroken)
