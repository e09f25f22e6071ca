"""The pages at the top of the repository, as its host shows them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PAGES = sorted(path.name for path in ROOT.glob("*.md"))


def anchors(page: Path) -> set[str]:
    """The fragments that lead to a heading of a Markdown page."""
    headings = HEADING.findall(page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(link: str) -> bool:
    path, _, fragment = link.partition("#")
    page = ROOT / path
    return page.exists() and (not fragment or fragment in anchors(page))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    links = LINK.findall((ROOT / page).read_text("utf-8"))
    inside = [link for link in links if not link.startswith(("https://", "mailto:"))]
    assert [link for link in inside if not leads_somewhere(link)] == []


def test_the_readme_is_short_and_leads_on() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert len(LINK.findall(text)) > 20
