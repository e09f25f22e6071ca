"""What the tests of the engines share: one tiny model, one server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vllm.server import Server, openai_server
from tests.vllm.tiny_llama import make_tiny_llama

SECRET = "sentinel-7f3a91c2"
# Before Ray starts: its workers inherit the environment, and read the key there.
os.environ["OPENAI_API_KEY"] = SECRET


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="session", autouse=True)
def server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts while other things do."""
    with openai_server(tiny_llama, tmp_path_factory.mktemp("server") / "log", SECRET) as server:
        yield server


@pytest.fixture(scope="session")
def base_url(server: Server) -> str:
    """Of a server that wants the key in OPENAI_API_KEY."""
    return server.base_url()
