"""Pages in headless Chromium, through its DevTools protocol: what a reader's browser would say."""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian's package of that name)"
)
AT_ONCE = 6
SECONDS = 120
"""After which a browser that does not answer is given up."""
COLLECT = """({links: [...document.querySelectorAll('a[href]')].map(a => a.href),
  ids: [...document.querySelectorAll('[id]')].map(e => e.id)})"""


@dataclass
class Visit:
    """What happened when a page was opened."""

    url: str
    errors: list[str] = field(default_factory=list)
    """Errors of scripts and of the console, and files that could not be loaded."""
    requests: list[str] = field(default_factory=list)
    """URLs that were asked for, data URIs left out."""
    links: list[str] = field(default_factory=list)
    """Where its links lead, as whole URLs."""
    ids: list[str] = field(default_factory=list)
    """Of its elements: what a fragment can name."""

    @property
    def faults(self) -> list[str]:
        """Errors, and requests beyond the page's own file."""
        beyond = [f"asks for {request}" for request in self.requests if request != self.url]
        return self.errors + beyond


def open_page(path: Path) -> list[str]:
    """Opens a page from disk; what is wrong with it."""
    (visit,) = visits([path.resolve().as_uri()])
    return visit.faults


def visits(urls: Sequence[str]) -> list[Visit]:
    """Opens each page in a tab of its own; a few at once, for most of the time is waiting."""

    async def one_by_one(address: str, urls: Sequence[str]) -> list[Visit]:
        async with _connected(address) as browser:
            return [await browser.visit(url) for url in urls]

    async def side_by_side() -> list[Visit]:
        async with _chromium() as address:
            parts = (one_by_one(address, urls[start::AT_ONCE]) for start in range(AT_ONCE))
            return [visit for part in await asyncio.gather(*parts) for visit in part]

    return asyncio.run(side_by_side())


def value_in(url: str, expression: str) -> Any:
    """What a script's expression gives on a page; a promise is waited for."""

    async def once() -> Any:
        visit = Visit(url)
        async with (
            _chromium() as address,
            _connected(address) as browser,
            browser.tab(visit),
        ):
            return await browser.evaluate(expression)

    return asyncio.run(once())


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder over http on this machine; gives its URL."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Browser:
    """One connection to Chromium; commands are answered in order of their numbers."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._session: str | None = None
        self._visit = Visit("")
        self._urls: dict[str, str] = {}
        """Requests of the open page by id."""
        self._idle: set[str] = set()
        """Navigations that have loaded, and whose network has been still for half a second."""

    async def visit(self, url: str) -> Visit:
        visit = Visit(url)
        async with self.tab(visit):
            found = await self.evaluate(COLLECT)
        visit.links, visit.ids = found["links"], found["ids"]
        return visit

    @contextlib.asynccontextmanager
    async def tab(self, visit: Visit) -> AsyncIterator[None]:
        """A page that is open and has nothing left to load."""
        target = (await self._ask("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._ask(f"{domain}.enable")
        await self._ask("Page.setLifecycleEventsEnabled", enabled=True)
        self._visit, self._urls = visit, {}
        loader = (await self._ask("Page.navigate", url=visit.url))["loaderId"]
        while loader not in self._idle:
            self._note(await self._next())
        yield
        self._session = None
        await self._ask("Target.closeTarget", targetId=target)

    async def evaluate(self, expression: str) -> Any:
        answer = await self._ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        await self._socket.send_json(
            command | ({"sessionId": self._session} if self._session else {})
        )
        while True:
            message = await self._next()
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    async def _next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self._socket.receive_json(), SECONDS)

    def _note(self, event: dict[str, Any]) -> None:
        """Keeps what an event says of the open page."""
        params, visit = event.get("params", {}), self._visit
        match event.get("method"):
            case "Page.lifecycleEvent" if params["name"] == "networkIdle":
                self._idle.add(params["loaderId"])
            case "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("data:", "blob:")):
                    self._urls[params["requestId"]] = url
                    visit.requests.append(url)
            case "Network.loadingFailed":
                url = self._urls.get(params["requestId"], "")
                visit.errors.append(f"{url}: {params['errorText']}")
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                said = details.get("exception", {}).get("description", details["text"])
                visit.errors.append(f"script: {said}")
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                visit.errors.append(f"console: {[arg.get('value') for arg in params['args']]}")
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                entry = params["entry"]
                visit.errors.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")


@contextlib.asynccontextmanager
async def _connected(address: str) -> AsyncIterator[_Browser]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, max_msg_size=0) as socket,
    ):
        yield _Browser(socket)


@contextlib.asynccontextmanager
async def _chromium() -> AsyncIterator[str]:
    """A browser of its own profile; where it listens."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--no-first-run", "--remote-debugging-port=0",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield await _address(process, Path(profile, "DevToolsActivePort"))
        finally:
            process.terminate()
            process.wait()


async def _address(process: subprocess.Popen[bytes], file: Path) -> str:
    """Where the browser listens, once it has said so in a file of its profile."""
    for _ in range(10 * SECONDS):
        if file.is_file() and len(lines := file.read_text().splitlines()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        if process.poll() is not None:
            raise RuntimeError(f"chromium ended with exit code {process.returncode}")
        await asyncio.sleep(0.1)
    raise RuntimeError(f"chromium did not start within {SECONDS} seconds")
