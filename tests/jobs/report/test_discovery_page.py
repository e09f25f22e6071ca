"""Discovery's page: by the statistics and the tables of the report, of whatever names."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from actors.discovery.discoverer import DiscoveryCell, DiscoveryConfig
from actors.discovery.work import SCHEMAS, Discovering, Work
from actors.search.cells import MethodConfig, declared_cells
from actors.search.measures import MEASURES, Answers, Measure
from actors.search.tasks import Tasks, TaskSource
from cluster.artifacts import Draft, draft
from jobs.report.pages.discovery import discovery_page, measure_sections
from jobs.report.sources import discovery_scores, measures_of
from jobs.report.statistics.scores import AVERAGE, Score, with_average, with_h_mean
from models.discovery.naming import NamingHyper
from models.discovery.zsnl import LearningHyper
from models.methods.fsnl import FsnlHyper
from tests.actors.small_world import make_dataset, make_features

WAY = DiscoveryConfig(
    labelled=2,
    naming=NamingHyper(by="imagined", min_margin=None),
    learning=LearningHyper(rounds=1, fsnl=FsnlHyper(epochs=2, lr=0.01)),
)
SCRIPT = "<script>alert('name')</script>"
LARGEST: Measure[Answers] = Measure(
    "largest", "largest logit", lambda a: a.logits.max().item(), unit=""
)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    folder = tmp_path_factory.mktemp("world")
    dataset = make_dataset(folder)
    features = make_features(folder, dataset)
    return Tasks(TaskSource((dataset.artifact.uri,), (features.uri,), None, "full", "hand"))


@pytest.fixture(scope="module")
def discovery(tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Draft:
    """A way and a baseline of two seeds, and the references, with a measure more."""
    out = draft(
        str(tmp_path_factory.mktemp("found")), "discovery", "discovery", config={}, inputs={}
    )
    (probe,) = declared_cells(
        ["toys"], {"probe": MethodConfig(method="linear_probe", shots=[2])}, {}
    )
    works = [Work("toys", (0, 1))]
    for seed in (0, 1):
        works.append(Work("toys", (seed,), DiscoveryCell("toys", "zsnl", seed, WAY, None)))
        works.append(Work("toys", (seed,), baseline=probe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MEASURES, LARGEST.name, LARGEST)
        worker = Discovering(tasks.source, out)
        pieces = [worker(work) for work in works]
    for name in SCHEMAS:
        out.write_table(name, pa.concat_tables(piece[name] for piece in pieces if name in piece))
    return out


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, LARGEST.name, LARGEST)


def test_every_measure_has_its_table(discovery: Draft, tasks: Tasks, registered: None) -> None:
    scores = discovery_scores(discovery)
    assert [measure.name for measure in measures_of(scores)] == [
        "accuracy", "mean_per_class_accuracy", "largest", "clustering", "naming", "assigned",
        "clusters", "unnamed", "rounds", "alone",
    ]  # fmt: skip
    page = discovery_page(discovery, tasks.encoded)
    headings = re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', page)
    assert headings == [
        ("accuracy", "Accuracy on test images"),
        ("mean_per_class_accuracy", "Mean per-class accuracy on test images"),
        ("largest", "Largest logit on test images"),
        ("unlabelled", "Clusters and names of unlabelled images"),
        ("groups", "OOP and IP images by themselves"),
        ("dataset-0", "toys"),
    ]
    assert re.findall(r'<a href="#([\w-]+)">(.*?)</a>', page) == headings


def test_tables_are_those_of_the_same_statistics(discovery: Draft, registered: None) -> None:
    scores = with_average(with_h_mean(discovery_scores(discovery)))
    (accuracy, *_) = measure_sections(scores)
    (table,) = accuracy.tables
    assert table.header == ["dataset", "method", "OOP", "IP", "H", "all"]
    lines = {line[1]: line[2:] for line in table.lines}
    assert lines.keys() == {"transclip", "zsnl", "probe"}
    assert lines["probe"][:3] == ["", "", ""], "it answers among all classes alone"
    values = {
        (s.seed, s.label_space): 100 * s.value for s in scores if s[1:4:2] == ("zsnl", "accuracy")
    }
    halves = [(values[seed, "OOP"], values[seed, "IP"]) for seed in (0, 1)]
    mean = sum(2 * a * b / (a + b) if a + b else 0 for a, b in halves) / 2
    assert str(lines["zsnl"][2]).split(" ± ")[0] == f"{mean:.1f}"


def test_averages_are_over_datasets_that_have_the_measure() -> None:
    scores = [
        Score(dataset, "k-means", seed, "alone", space, 0.5 + 0.1 * seed)
        for dataset, spaces in (("toys", ("OOP", "IP")), ("tools", ("OOP", "IP")), ("x", ("OOP",)))
        for space in spaces
        for seed in (0, 1)
    ]
    (section,) = measure_sections(with_average(scores))
    (table,) = section.tables
    assert table.header == ["dataset", "method", "OOP", "IP"]
    assert [line[0] for line in table.lines] == ["toys", "tools", "x", AVERAGE]
    assert table.lines[-1][2:] == table.lines[0][2:]
    assert table.lines[2][3] == ""


def test_names_are_shown_not_run(
    discovery: Draft, tasks: Tasks, tmp_path: Path, registered: None
) -> None:
    out = draft(str(tmp_path), "discovery", "discovery", config={}, inputs={})
    names = [SCRIPT, r"$\frac{1$", "A $5 and $6"]
    for table in SCHEMAS:
        rows = discovery.read_table(table).to_pylist()
        if table == "clusters":
            rows = [row | {"name": names[row["cluster"] % 3]} for row in rows]
        if table == "metrics":
            rows = [row | {"dataset": SCRIPT} for row in rows]
        out.write_table(table, pa.Table.from_pylist(rows, SCHEMAS[table]))
    page = discovery_page(out, tasks.encoded)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>A $5 and $6</b>" in page


def test_a_source_without_classes_has_no_tables(
    discovery: Draft, tasks: Tasks, tmp_path: Path
) -> None:
    out = draft(str(tmp_path), "discovery", "discovery", config={}, inputs={})
    for table in ("clusters", "assignments"):
        out.write_table(table, discovery.read_table(table))
    out.write_table("metrics", SCHEMAS["metrics"].empty_table())
    page = discovery_page(out, tasks.encoded)
    assert re.findall(r'<h2 id="([\w-]+)">', page) == ["dataset-0"]
    assert "<table" not in page
