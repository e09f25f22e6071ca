"""vLLM's engines under Ray Data. The driver and our own steps run in the main environment."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import ray
from openai import OpenAI

from actors.synthesis.language_models.endpoint import Endpoint, EndpointConfig
from actors.synthesis.language_models.stages import Sampling
from actors.synthesis.language_models.vllm import VllmConfig, vllm_stage
from cluster.rows import row_seed
from tests.vllm.engine import CONTEXT, ENGINE_POOL, settings
from tests.vllm.server import SERVED_NAME

SAMPLING = Sampling(max_tokens=24)
PROMPTS = [f"{'a photo of a small fox, ' * (1 + i % 5)}number {i}" for i in range(12)]
TOO_LONG = "fox " * CONTEXT


def rows_of(prompts: list[str]) -> pa.Table:
    """Rows whose seed is their prompt's, with columns of all kinds beside them."""
    n = len(prompts)
    return pa.table(
        {
            "id": [f"row-{i:03d}" for i in range(n)],
            "prompt": prompts,
            "seed": [row_seed(prompt) for prompt in prompts],
            "model": ["a column of this name is an adapter to ray.data.llm"] * n,
            "share": pa.array(np.arange(n) / 3, pa.float32()),
            "factors": pa.array(
                [["night", "snow"][: i % 3] for i in range(n)], pa.list_(pa.string())
            ),
            "png": [b"\x00\xff"] * n,
            "nothing": pa.nulls(n, pa.string()),
        }
    )


@dataclass(frozen=True)
class Run:
    """Rows that went in and came out, and how many of them before the engine was killed."""

    asked: pa.Table
    answered: pa.Table
    before_the_kill: int


@pytest.fixture(scope="module")
def run(local_ray: None, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Each prompt four times in another order and company; after the first texts the engine's
    process is killed, and only then the second half of the rows is let through."""
    order = np.random.default_rng(0).permutation(4 * len(PROMPTS))
    asked = rows_of(["", TOO_LONG, *[PROMPTS[i % len(PROMPTS)] for i in order]])
    half = len(asked) // 2
    gate = tmp_path_factory.mktemp("gate") / "open"

    def wait(rows: pa.Table) -> pa.Table:
        while not gate.exists():
            time.sleep(0.05)
        return rows

    first = ray.data.from_arrow([asked.slice(i, min(9, half - i)) for i in range(0, half, 9)])
    second = ray.data.from_arrow(asked.slice(half)).map_batches(
        wait, batch_format="pyarrow", num_cpus=0.25
    )
    stage = vllm_stage(VllmConfig(**settings(tiny_llama)), SAMPLING, ENGINE_POOL)
    batches = iter(stage(first.union(second)).iter_batches(batch_format="pyarrow", batch_size=None))
    try:
        before = next(batches)
        kill_engine()
    finally:
        gate.touch()
    return Run(asked, pa.concat_tables([before, *batches]).sort_by("id"), len(before))


def kill_engine() -> None:
    """SIGKILL to the process in which vLLM computes, a child of Ray's worker."""
    engines = [
        process
        for worker in psutil.Process().children(recursive=True)
        if worker.name().startswith("ray::MapWorker")
        for process in worker.children()
        if process.name().startswith("VLLM::EngineCor")
    ]
    assert len(engines) == 1
    engines[0].kill()


def test_a_killed_engine_is_started_again(run: Run) -> None:
    assert 0 < run.before_the_kill <= len(run.asked) // 2
    assert run.answered["id"].to_pylist() == run.asked["id"].to_pylist()


def test_a_text_depends_on_prompt_and_seed_alone(run: Run, base_url: str) -> None:
    """Not on order, batch or a kill: it is what vLLM's server answers to the prompt alone."""
    client = OpenAI(base_url=base_url)
    alone = {
        row["prompt"]: client.completions.create(
            model=SERVED_NAME, prompt=row["prompt"], seed=row["seed"], **asdict(SAMPLING)
        )
        .choices[0]
        .text
        for row in run.asked.to_pylist()
        if row["prompt"] in PROMPTS
    }
    assert len(set(alone.values())) == len(PROMPTS)
    good = [row for row in run.answered.to_pylist() if row["prompt"] in PROMPTS]
    assert [row["text"] for row in good] == [alone[row["prompt"]] for row in good]
    assert {row["error"] for row in good} == {""}


def test_other_columns_pass_unchanged(run: Run) -> None:
    assert run.answered.drop_columns(["text", "error"]).equals(run.asked)


def test_a_bad_prompt_is_a_row_with_its_reason(run: Run) -> None:
    bad = {row["prompt"]: row for row in run.answered.to_pylist() if row["prompt"] not in PROMPTS}
    assert {row["text"] for row in bad.values()} == {""}
    assert bad[""]["error"] == "empty prompt"
    assert f"maximum context length is {CONTEXT} tokens" in bad[TOO_LONG]["error"]


def test_chat_wraps_the_prompt_as_the_server_does(
    local_ray: None, tiny_llama: Path, base_url: str
) -> None:
    asked = rows_of(PROMPTS)
    stage = vllm_stage(VllmConfig(**settings(tiny_llama), chat=True), SAMPLING, ENGINE_POOL)
    answered = stage(ray.data.from_arrow(asked)).take_all()
    endpoint = Endpoint(EndpointConfig(base_url=base_url, model=SERVED_NAME))
    for row in answered:
        said = endpoint.ask(row["prompt"], schema=None, seed=row["seed"], **asdict(SAMPLING))
        assert row["text"] == said
    assert len(answered) == len(asked)
