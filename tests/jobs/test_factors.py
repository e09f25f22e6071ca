"""Factors from a file, and from a server over HTTP whose answers are at times bad."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest

from actors.synthesis.factors import questions as factor_questions
from actors.synthesis.factors.answers import COUNTS
from actors.synthesis.factors.asker import TRIES
from actors.synthesis.factors.tables import MODES
from actors.synthesis.language_models.endpoint import EndpointConfig
from cluster.artifacts import Draft
from cluster.errors import ConfigError
from jobs.factors import FactorsConfig, factors
from tests.jobs.small_datasets import dataset_of

LISTS = 4 + 2
"""Questions about the lists of two classes whose backgrounds are asked once for both."""
CAPTIONS = 2 * 4


class Server(ThreadingHTTPServer):
    """Chat completions of canned answers: good ones, but for prompts that `bad` matches."""

    bad = ""
    asked: list[str]

    def answer(self, prompt: str) -> str:
        self.asked.append(prompt)
        if self.bad and re.search(self.bad, prompt):
            return "Sure! __import__('os')"
        kind = re.findall(r'\{"(\w+)":', prompt)[-1]
        if kind == "caption":
            return json.dumps({"caption": "A cat and a dog at dusk."})
        return json.dumps({kind: [f"{kind} number {i}" for i in range(COUNTS[kind][1])]})


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = self.server.answer(asked["messages"][-1]["content"])
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
        data = json.dumps(body | {"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.asked = []
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture(autouse=True)
def one_example_per_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_questions, "EXAMPLES", 1)


def config(folder: Path, server: Server, **more: Any) -> FactorsConfig:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    return FactorsConfig(
        storage=str(folder),
        datasets=[dataset_of(folder, "pets", ("cat", "dog"), "animal").artifact.uri],
        endpoint=EndpointConfig(base_url=url, model="org/model", tries=1),
        backgrounds_per="dataset",
        **more,
    )


def test_only_refused_questions_are_asked_again(
    tmp_path: Path, server: Server, local_ray: None
) -> None:
    cfg = config(tmp_path, server)
    server.bad = "positions of the camera"
    with pytest.raises(ConfigError, match=rf"1 of {LISTS} answers about lists .*1 x not JSON\)"):
        factors(cfg)
    assert len(server.asked) == LISTS - 1 + TRIES

    server.asked, server.bad = [], r'contains "dog"[\s\S]*- light:'
    with pytest.raises(ConfigError, match=rf"1 of {CAPTIONS} answers about examples .*run again"):
        factors(cfg)
    assert len(server.asked) == 1 + CAPTIONS - 1 + TRIES
    assert "positions of the camera" in server.asked[0]
    assert not list(tmp_path.glob("factors/*/manifest.json"))

    server.asked, server.bad = [], ""
    made = factors(cfg)
    assert len(server.asked) == 1
    assert made.manifest.name == "org/model"
    assert made.manifest.rows == {"classes": 2, "refused": 0}
    for row in made.read_table("classes").to_pylist():
        for name, (_, most) in COUNTS.items():
            assert row[name] == [f"{name} number {i}" for i in range(most)]
        assert row["synonyms"] == []
        assert row["examples"] == {mode: ["A cat and a dog at dusk."] for mode in MODES}
    assert factors(cfg).uri == made.uri
    assert len(server.asked) == 1


def test_refused_answers_can_be_done_without(
    tmp_path: Path, server: Server, local_ray: None
) -> None:
    server.bad = "flaws that a camera"
    made = factors(config(tmp_path, server, accept_refused=True))
    assert made.manifest.rows == {"classes": 2, "refused": 1}
    (refused,) = made.read_table("refused").to_pylist()
    assert (refused["kind"], refused["reason"]) == ("degradations", "not JSON")
    assert "flaws that a camera" in refused["prompt"]
    assert refused["answer"] == "Sure! __import__('os')"
    for row in made.read_table("classes").to_pylist():
        assert row["degradations"] == row["examples"]["CD"] == []
        assert len(row["examples"]["LC"]) == 1
    # Without degradations there is nothing to ask about their mode.
    assert len(server.asked) == LISTS - 1 + TRIES + 2 * 3


def test_a_run_that_is_broken_off_before_its_end_asks_nobody_again(
    tmp_path: Path, server: Server, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(tmp_path, server)
    with monkeypatch.context() as patch:
        patch.setattr(Draft, "publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            factors(cfg)
    assert len(server.asked) == LISTS + CAPTIONS
    made = factors(cfg)
    assert len(server.asked) == LISTS + CAPTIONS
    folder = Path(made.uri)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "refused/part-0.parquet", "classes/part-0.parquet"}


def interrupted(*_: Any, **__: Any) -> NoReturn:
    raise KeyboardInterrupt


def test_a_table_by_hand_becomes_an_artifact(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text("attributes: [old, new]\nclasses: {cat: {synonyms: [kitty]}}")
    pets = dataset_of(tmp_path, "pets", ("cat", "dog")).artifact.uri
    given: dict[str, Any] = {"storage": str(tmp_path), "datasets": [pets], "table": str(path)}
    made = factors(FactorsConfig(**given))
    assert made.manifest.name == "table"
    cat, dog = made.read_table("classes").to_pylist()
    assert (cat["attributes"], cat["synonyms"]) == (["old", "new"], ["kitty"])
    assert (dog["attributes"], dog["synonyms"]) == (["old", "new"], [])
    endpoint = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(ConfigError, match="table: given together with endpoint; allowed: one"):
        factors(FactorsConfig(**given, endpoint=endpoint))


def test_a_subject_of_no_dataset_is_named(tmp_path: Path, server: Server) -> None:
    with pytest.raises(ConfigError, match="subjects: 'eurosat' is no dataset; allowed: pets"):
        factors(config(tmp_path, server, subjects={"eurosat": "aerial"}))
