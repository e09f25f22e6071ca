"""What `tests.browser` reports: without this, a page without errors would say nothing."""

from pathlib import Path

import pytest

from tests.browser import needs_chromium, open_page, visits

pytestmark = needs_chromium


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<script>undefinedName()</script>", "undefinedName is not defined"),
        ("<script>setTimeout(() => { throw new Error('late') })</script>", "late"),
        ("<script>console.error('odd')</script>", "odd"),
        ("<img src='missing.png'>", "missing.png"),
        ("<link rel='stylesheet' href='http://example.org/x.css'>", "asks for http://example.org"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(tmp_path: Path, body: str, said: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>x</title><link rel=icon href=data:,>{body}")
    assert said in "\n".join(open_page(page))


def test_a_good_page_has_no_errors_and_its_links_are_told(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>x</title><p id='here'><a href='#here'>there</a>")
    assert open_page(page) == []
    (visit,) = visits([page.as_uri()])
    assert (visit.links, visit.ids) == ([f"{page.as_uri()}#here"], ["here"])
