"""A measure more is an entry of the registry: what is reported of it follows."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from actors.search.measures import MEASURES, Answers, Measure
from cluster.artifacts import Artifact
from cluster.errors import ConfigError
from jobs.report.job import PAGE, ReportConfig, report
from jobs.report.pages.render import TEMPLATES
from jobs.report.sources import known_measures
from tests.jobs.report.report_artifacts import write_sources


def share_of_first_class(answers: Answers) -> float:
    return (answers.logits.argmax(dim=1) == 0).float().mean().item()


THIRD = Measure(
    "first_class", "share of the <first> class", share_of_first_class, note="Of the answers."
)


@pytest.fixture(scope="module")
def with_third(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    storage = tmp_path_factory.mktemp("third")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MEASURES, THIRD.name, THIRD)
        sources = write_sources(storage)
        return report(
            ReportConfig(
                storage=str(storage), results=sources.results.uri, adapted=sources.adapted.uri
            )
        )


class Sections(HTMLParser):
    """Text of a page by the anchor of the heading that it follows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.anchor = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "h2":
            self.anchor = dict(attrs)["id"] or ""

    def handle_data(self, data: str) -> None:
        self.text[self.anchor] = self.text.get(self.anchor, "") + data


@pytest.mark.parametrize("name", ["mean_per_class_accuracy", THIRD.name])
def test_it_is_in_every_spelling_of_its_table(with_third: Artifact, name: str) -> None:
    rows = with_third.read_table(name).to_pylist()
    cells = {(r["dataset"], r["method"], r["shots"], r["label_space"]): r for r in rows}
    row = cells["digits", "imaginefsl", 4, "all"]
    assert row["seeds"] == 3
    assert row["low"] < row[name] < row["high"]
    text = Path(with_third.file("tables", f"{name}.csv")).read_text()
    lines = list(csv.DictReader(text.splitlines()))
    assert [float(line[name]) for line in lines] == [r[name] for r in rows]
    shown = f"{100 * row[name]:.1f} ± {100 * (row['high'] - row[name]):.1f}"
    markdown = Path(with_third.file("tables", f"{name}.md")).read_text()
    (line,) = (x for x in markdown.splitlines() if x.startswith("| digits | imaginefsl |"))
    assert line.endswith(f"| {shown} |")
    halves = Path(with_third.file("tables", f"{name}_oop_against_ip.md")).read_text()
    assert re.search(r"\| animals \| fsnl \| 4 \| \d+\.\d ± ", halves)
    assert {r["measure"] for r in with_third.read_table("paired").to_pylist()} >= {name, "accuracy"}
    sections = Sections(Path(with_third.file(PAGE)).read_text()).text
    assert shown in sections[name]
    assert shown not in sections["accuracy"]


def test_its_words_are_escaped_on_the_page(with_third: Artifact) -> None:
    page = Path(with_third.file(PAGE)).read_text()
    assert '<a href="#first_class">Share of the &lt;first&gt; class</a>' in page
    assert "Of the answers." in page
    assert "<first>" not in page


def test_accuracy_does_not_depend_on_what_else_is_measured(
    with_third: Artifact, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in MEASURES if name != "accuracy"]:
            patch.delitem(MEASURES, name)
        sources = write_sources(tmp_path)
        alone = report(
            ReportConfig(
                storage=str(tmp_path), results=sources.results.uri, adapted=sources.adapted.uri
            )
        )
    for name in ("accuracy", "classes", "splits", "cells", "refused", "importance"):
        assert alone.read_table(name).equals(with_third.read_table(name))
    tables = sorted(Path(alone.file("tables")).glob("*.md"))
    assert [table.stem for table in tables] == ["accuracy", "heads", "oop_against_ip", "paired"]
    for table in tables:
        assert table.read_text() == Path(with_third.file("tables", table.name)).read_text()


def test_a_measure_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MEASURES, THIRD.name, THIRD)
        sources = write_sources(tmp_path)
    with pytest.raises(ConfigError, match="has measure 'first_class'; allowed: accuracy, mean_per"):
        report(
            ReportConfig(
                storage=str(tmp_path), results=sources.results.uri, adapted=sources.adapted.uri
            )
        )


def test_no_measure_has_the_name_of_another_table_or_section(with_third: Artifact) -> None:
    """Its name is that of its files, and the anchor of its section."""
    measures = known_measures()
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in measures)
    page = (TEMPLATES / "results.html.j2").read_text()
    sections = set(re.findall(r'heading\("(\w+)"', page)) - {"accuracy"}
    tables = with_third.manifest.rows.keys() - measures.keys() - {THIRD.name}
    assert {"search", "classes"} <= sections
    assert {"cells", "classes"} <= tables
    assert not measures.keys() & (sections | tables)
