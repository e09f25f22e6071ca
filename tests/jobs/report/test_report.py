"""The page, its tables, and what a report refuses."""

import base64
import csv
import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from cluster.artifacts import Artifact, draft
from cluster.errors import ConfigError
from cluster.job import run_job
from jobs.report.job import PAGE, ReportConfig, report
from jobs.report.tables.results import closing_table
from tests.browser import needs_chromium, open_page
from tests.jobs.report.report_artifacts import SCRIPT, Sources, write_sources


class Elements(HTMLParser):
    """Tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def artifact(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return report(config(sources, tmp_path_factory.mktemp("reports")))


@pytest.fixture(scope="module")
def page(artifact: Artifact) -> Elements:
    return Elements(Path(artifact.file(PAGE)).read_text())


def config(sources: Sources, storage: Path, **changed: object) -> ReportConfig:
    uris = {role: artifact.uri for role, artifact in vars(sources).items()}
    return ReportConfig(**{"storage": str(storage), **uris, "captions": 6, **changed})  # type: ignore[arg-type]


def test_the_page_needs_nothing_but_itself(page: Elements) -> None:
    addresses = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert len(addresses) > 20
    assert [a for a in addresses if not str(a).startswith(("data:image/png;base64,", "#"))] == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}


def test_every_link_of_the_page_leads_somewhere(page: Elements) -> None:
    places = {attributes.get("id") for _, attributes in page.tags}
    links = [str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"]
    assert len(links) == 13
    assert set(links) <= places


def test_pictures_of_the_page_can_be_decoded(page: Elements) -> None:
    pictures = [str(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 7 + 6 * 4  # figures; captions in four views
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).verify()


def test_a_script_in_a_caption_is_shown_not_run(artifact: Artifact, page: Elements) -> None:
    assert SCRIPT in page.text
    assert "<script" not in Path(artifact.file(PAGE)).read_text().lower()


def test_the_page_says_what_was_measured(page: Elements) -> None:
    text = re.sub(r"\s+", " ", page.text)
    assert "imaginefsl is ahead of imaginefsl-scratch in" in text
    assert "min(shots, 4) validation images per class" in text
    assert "empty caption" in text
    assert "3 complete, 1 fail" in text
    assert "ArithmeticError: the loss is not finite" in text


def test_tables_are_written_for_people_and_for_programs(artifact: Artifact) -> None:
    assert set(artifact.manifest.rows) == {
        "accuracy", "mean_per_class_accuracy", "paired", "classes", "splits", "refused", "cells",
        "importance",
    }  # fmt: skip
    for name, count in artifact.manifest.rows.items():
        text = Path(artifact.file("tables", f"{name}.csv")).read_text()
        lines = list(csv.DictReader(text.splitlines()))
        assert len(lines) == artifact.read_table(name).num_rows == count
        assert list(lines[0]) == artifact.read_table(name).schema.names


def test_every_head_is_told_by_itself(artifact: Artifact) -> None:
    """On average over datasets, in points below the fused head as the results have it."""
    lines = Path(artifact.file("tables", "heads.md")).read_text().splitlines()
    for method in ("imaginefsl", "imaginefsl-scratch"):
        values = {}
        for head in ("fused", "visual", "text"):
            (line,) = (text for text in lines if f"| {method}, {head} |" in text)
            assert "(average)" in line
            values[head] = [float(mean) for mean in re.findall(r"([\d.]+) ±", line)]
        for fused, visual, text in zip(*values.values(), strict=True):
            assert fused - visual == pytest.approx(10, abs=0.11)
            assert fused - text == pytest.approx(20, abs=0.11)


def test_the_search_is_told_cell_by_cell(artifact: Artifact) -> None:
    cells = {
        (row["dataset"], row["method"], row["shots"]): row
        for row in artifact.read_table("cells").to_pylist()
    }
    searched, declared = cells["digits", "imaginefsl", 4], cells["digits", "zero-shot", 0]
    assert (searched["complete"], searched["fail"], searched["best_val_accuracy"]) == (3, 1, 0.6)
    assert searched["worker_s"] == 4 * 2.0 + 2 * 1.0, "the first seed's model is a trial's"
    assert (declared["complete"], declared["worker_s"]) == (0, 1.0)
    shares = {row["hyper_parameter"]: row for row in artifact.read_table("importance").to_pylist()}
    assert {row["method"] for row in shares.values()} == {"imaginefsl"}
    assert shares["lr"]["share"] > shares["steps"]["share"], "accuracy follows lr alone"


def test_made_again_it_says_so(
    sources: Sources, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    again = report(config(sources, Path(artifact.uri).parents[1]))
    assert again.uri == artifact.uri
    assert "report: done before" in capsys.readouterr().err


def test_a_method_without_results_is_refused(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="against: 'scratch' has no result; allowed: fsnl, imag"):
        report(config(sources, tmp_path, against="scratch"))


def test_a_method_compared_with_itself_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"storage": "x", "results": "x", "adapted": "x", "compare": "fsnl"}
    arguments = [f"--{name}={value}" for name, value in (settings | {"against": "fsnl"}).items()]
    monkeypatch.setattr(sys, "argv", ["report", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_job(ReportConfig, report)
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "error: against: 'fsnl' is also compare; allowed: another method of the results\n"
    )


def test_results_of_an_older_version_are_refused(sources: Sources, tmp_path: Path) -> None:
    out = draft(str(tmp_path), "results", "results", config={}, inputs={})
    rows = sources.results.read_table("rows").drop_columns(["measure"])
    out.write_table("rows", rows)
    older = out.publish({"rows": len(rows)})
    with pytest.raises(ConfigError, match=r"results: '.*' was written by an older version"):
        report(config(sources, tmp_path, results=older.uri))


def test_sections_without_sources_are_left_out(sources: Sources, tmp_path: Path) -> None:
    def places(**without: None) -> set[str | None]:
        bare = report(config(sources, tmp_path, **without))
        elements = Elements(Path(bare.file(PAGE)).read_text())
        return {attributes.get("id") for _, attributes in elements.tags}

    of_search = places(teacher=None, base_set=None, compare=None)
    assert {"accuracy", "OOP", "fusion", "search", "chosen"} <= of_search
    assert not {"gallery", "pretraining", "paired"} & of_search
    of_saved_models = places(adapted=None, teacher=None, base_set=None, compare=None)
    assert of_search - of_saved_models == {"fusion", "search", "chosen"}


def test_the_closing_table_has_every_method_and_number_of_shots(sources: Sources) -> None:
    lines = closing_table(sources.results).splitlines()
    assert lines[2].split() == ["dataset", "method", "0", "shots", "1", "shot", "4", "shots"]
    assert sum(line.startswith("animals") for line in lines) == 4 + 2
    assert any(
        re.match(r"digits +imaginefsl +\d+\.\d ± \d+\.\d +\d+\.\d ± \d+\.\d$", x) for x in lines
    )
    assert max(map(len, lines)) < 110


@needs_chromium
def test_a_browser_opens_the_page_without_an_error(artifact: Artifact) -> None:
    assert open_page(Path(artifact.file(PAGE))) == []
