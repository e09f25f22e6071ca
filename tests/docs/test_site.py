"""The site: built strictly, and every page opened in a browser."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urldefrag

import pytest

from actors import local
from tests.browser import Visit, needs_chromium, served, value_in, visits

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
SEARCH = """new Promise(found => { const look = () => {
  const items = document.querySelectorAll('.md-search-result__item a');
  items.length ? found([...items].map(a => a.href)) : setTimeout(look, 100); }; look(); })"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with served(site) as url:
        yield url


@pytest.fixture(scope="module")
def opened(site: Path, address: str) -> dict[str, Visit]:
    """Every page by its URL."""
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    urls = [f"{address}/{page}" for page in pages if page != "404.html"]
    return {visit.url: visit for visit in visits(urls)}


@needs_chromium
def test_no_page_has_an_error(opened: dict[str, Visit]) -> None:
    assert {url: visit.errors for url, visit in opened.items() if visit.errors} == {}


@needs_chromium
def test_no_page_asks_another_host(opened: dict[str, Visit], address: str) -> None:
    requests = {request for visit in opened.values() for request in visit.requests}
    assert {request for request in requests if not request.startswith(f"{address}/")} == set()
    assert len(requests) > len(opened)


@needs_chromium
def test_every_link_within_the_site_leads_to_something(
    opened: dict[str, Visit], site: Path, address: str
) -> None:
    ids = {url: set(visit.ids) for url, visit in opened.items()}
    broken = []
    for url, visit in opened.items():
        for link in visit.links:
            page, fragment = urldefrag(link)
            if not page.startswith(address):
                continue
            page = f"{address}/index.html" if page.rstrip("/") == address else page
            there = (site / page.removeprefix(f"{address}/")).is_file()
            if not there or (fragment and page in ids and fragment not in ids[page]):
                broken.append((url, link))
    assert broken == []


@needs_chromium
def test_the_search_finds_a_word_of_the_glossary(opened: dict[str, Visit], address: str) -> None:
    results = value_in(f"{address}/index.html?q=Sinkhorn", SEARCH)
    assert any(result.startswith(f"{address}/glossary.html") for result in results)


def test_every_module_and_every_name_of_the_api_is_on_a_page(site: Path) -> None:
    pages = "".join(path.read_text("utf-8") for path in (site / "api").glob("*.html"))
    rooms = ("actors", "cluster", "jobs", "kernels", "models")
    modules = [path for room in rooms for path in (ROOT / room).rglob("[a-z]*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules}
    names = {name for name in names if not name.startswith(f"{local.__name__}.")}
    names |= {f"{local.__name__}.{name}" for name in local.__all__}
    assert len(names) > 100
    assert {name for name in names if f'id="{name}"' not in pages} == set()
