"""The stage that asks a server, against vLLM's own."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from openai import OpenAI

from actors.synthesis.language_models.endpoint import Endpoint, EndpointConfig, endpoint_stage
from actors.synthesis.language_models.stages import Sampling
from cluster.pool import Pool
from tests.vllm.conftest import SECRET
from tests.vllm.server import CONTEXT, SERVED_NAME, Server

SAMPLING = Sampling(max_tokens=16)
PROMPTS = [f"a photo of a fox number {i}" for i in range(20)]
ASKED = pa.table(
    {
        "id": [f"row-{i:02d}" for i in range(22)],
        "prompt": [*PROMPTS, "", "fox " * CONTEXT],
        "seed": range(2**63 - 22, 2**63),
        "factors": pa.array([["snow"][: i % 2] for i in range(22)], pa.list_(pa.string())),
    }
)


@pytest.fixture(scope="module")
def endpoint(base_url: str, local_ray: None) -> EndpointConfig:
    return EndpointConfig(base_url=base_url, model=SERVED_NAME, concurrent=4)


def answers(cfg: EndpointConfig) -> pa.Table:
    answered = endpoint_stage(cfg, SAMPLING, Pool(workers=1))(ray.data.from_arrow(ASKED))
    return pa.concat_tables(ray.get(answered.to_arrow_refs())).sort_by("id")


def test_texts_are_those_of_one_question_at_a_time(endpoint: EndpointConfig) -> None:
    answered, alone = answers(endpoint), Endpoint(endpoint)
    assert answered.drop_columns(["text", "error"]).equals(ASKED)
    *good, empty, too_long = answered.to_pylist()
    for row in good:
        sampling = dataclasses.asdict(SAMPLING)
        assert row["text"] == alone.ask(row["prompt"], schema=None, seed=row["seed"], **sampling)
    assert {row["error"] for row in good} == {""}
    assert (empty["text"], empty["error"]) == ("", "empty prompt")
    assert too_long["text"] == ""
    assert too_long["error"].startswith(
        f"HTTP 400: This model's maximum context length is {CONTEXT}"
    )


def test_thinking_is_switched_off_where_the_template_can(endpoint: EndpointConfig) -> None:
    sampling, client = dataclasses.asdict(SAMPLING), OpenAI(base_url=endpoint.base_url)

    def said(**more: Any) -> str | None:
        messages: Any = [{"role": "user", "content": PROMPTS[0]}]
        answer = client.chat.completions.create(
            model=SERVED_NAME, messages=messages, seed=7, **sampling, **more
        )
        return answer.choices[0].message.content

    text = Endpoint(endpoint).ask(PROMPTS[0], schema=None, seed=7, **sampling)
    assert text == said(extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert text != said()


def test_a_server_that_does_not_answer_makes_rows_with_the_reason(
    endpoint: EndpointConfig, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the key, which every request carried, is in no row and no log."""
    unknown = answers(dataclasses.replace(endpoint, model="nobody"))
    assert set(unknown["error"].to_pylist()[:20]) == {
        "HTTP 404: The model `nobody` does not exist. Valid aliases: tiny."
    }
    dead = answers(dataclasses.replace(endpoint, base_url="http://127.0.0.1:9/v1", tries=1))
    assert set(dead["error"].to_pylist()[:20]) == {
        "no connection to http://127.0.0.1:9/v1 in 1 tries"
    }
    refused = answers(dataclasses.replace(endpoint, key_variable="NO_SUCH_KEY"))
    assert set(refused["error"].to_pylist()[:20]) == {
        "HTTP 401: the key in NO_SUCH_KEY is not accepted"
    }
    assert {*unknown["text"].to_pylist(), *dead["text"].to_pylist()} == {""}
    node = ray._private.worker._global_node
    assert node is not None
    logs = Path(node.get_logs_dir_path())
    written = [path.read_bytes() for path in [*logs.rglob("*"), server.log] if path.is_file()]
    assert len(written) > 5
    assert not [text for text in written if SECRET.encode() in text]
    assert SECRET not in str([unknown.to_pylist(), dead.to_pylist(), *capfd.readouterr()])
