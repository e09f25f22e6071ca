"""What `tests.browser` reports: without this, a page without errors would say nothing."""

import pytest

from tests.browser import Visit, needs_chromium, visits

pytestmark = needs_chromium

BAD = {
    "a script fails": (
        "<script>undefinedName()</script>",
        "undefinedName is not defined",
    ),
    "a script fails late": (
        "<script>setTimeout(() => { throw new Error('late') })</script>",
        "late",
    ),
    "an error is written": (
        "<script>console.error('odd')</script>",
        "odd",
    ),
    "a picture is missing": (
        "<img src='missing.png'>",
        "missing.png",
    ),
    "another host is asked": (
        "<link rel='stylesheet' href='http://example.org/x.css'>",
        "asks for http://example.org",
    ),
}
"""Body of a page, and what is said of it."""
GOOD = "<p id='here'><a href='#here'>there</a>"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Visit]:
    """All pages, by one browser."""
    folder = tmp_path_factory.mktemp("pages")
    bodies = {name: body for name, (body, _) in BAD.items()} | {"good": GOOD}
    pages = [folder / f"{name.replace(' ', '_')}.html" for name in bodies]
    for page, body in zip(pages, bodies.values(), strict=True):
        head = "<!doctype html><title>x</title><link rel=icon href=data:,>"
        page.write_text(head + body)
    return dict(zip(bodies, visits([page.as_uri() for page in pages]), strict=True))


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_page_is_said(opened: dict[str, Visit], name: str) -> None:
    assert BAD[name][1] in "\n".join(opened[name].faults)


def test_a_good_page_has_no_errors_and_its_links_are_told(opened: dict[str, Visit]) -> None:
    visit = opened["good"]
    assert (visit.faults, visit.links) == ([], [f"{visit.url}#here"])
    assert visit.ids == ["here"]
