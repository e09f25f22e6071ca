"""vLLM's engines as a stage of Ray Data."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import ray.data
from jsonargparse.typing import PositiveInt

from actors.synthesis.language_models.stages import (
    NO_THOUGHTS,
    SMALL_CPUS,
    Sampling,
    Stage,
    answered,
)
from cluster.content import unhashed
from cluster.pool import Pool

SPEED_SETTINGS = frozenset(
    {
        "block_size",
        "cpu_offload_gb",
        "data_parallel_size",
        "disable_log_requests",
        "disable_log_stats",
        "distributed_executor_backend",
        "download_dir",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_parallel_loading_workers",
        "pipeline_parallel_size",
        "swap_space",
        "tensor_parallel_size",
        "use_tqdm_on_load",
    }
)
"""Arguments of an engine that change no text, within what rounding does in a short type."""


def text_settings(engine: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an engine that can change its texts: dtype, quantization, revision, …"""
    return {name: value for name, value in engine.items() if name not in SPEED_SETTINGS}


@dataclass(frozen=True, kw_only=True)
class VllmConfig:
    """A vLLM engine."""

    model: str
    """Tag of the Hugging Face hub, or a folder that every node of the engines sees."""
    chat: bool = False
    """Wrap each prompt in the model's chat template; for models trained on instructions."""
    # Not hashed as a whole: what of it changes texts is part of the captions' ids.
    engine: dict[str, Any] = unhashed(default_factory=dict)
    """vLLM's AsyncEngineArgs: dtype, max_model_len, tensor_parallel_size, ... In float32 a text
    depends on its prompt and seed alone; in a shorter type it can depend on the batch. Arguments
    that say where and how fast an engine runs (SPEED_SETTINGS) make no other captions."""
    batch_size: PositiveInt = unhashed(64)
    """Prompts that are handed to an engine together; it works on several batches at once."""
    runtime_env: dict[str, Any] | None = unhashed(None)
    """Ray's runtime environment of the engines, where vLLM's pins clash with the rest."""


def vllm_stage(cfg: VllmConfig, sampling: Sampling, pool: Pool) -> Stage:
    """Texts from vLLM: the prompt's continuation, or with `chat` the answer to it.

    pool: of engines; what Ray sets aside for each worker of an engine, of which there are as many
    as `tensor_parallel_size` says.

    The driver needs transformers, not vLLM. A row's text does not depend on the batch, the engine
    or a restart, within what `VllmConfig.engine` says of the type.
    """
    engine = dict(cfg.engine)
    if not pool.gpus:
        # On a CPU, vLLM (0.32) dies of a prompt that has a seed and is read in more than one piece.
        engine.setdefault("enable_chunked_prefill", False)
    # Here and not above: it takes two seconds, which the other writers need not pay.
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    def request(row: dict[str, Any]) -> dict[str, Any]:
        params = {"sampling_params": {**asdict(sampling), "seed": row["seed"]}}
        if cfg.chat:
            return {"messages": [{"role": "user", "content": row["prompt"]}], **params}
        return params

    def stage(rows: ray.data.Dataset) -> ray.data.Dataset:
        config = vLLMEngineProcessorConfig(
            model_source=os.path.abspath(cfg.model) if os.path.isdir(cfg.model) else cfg.model,
            engine_kwargs=dict(engine),  # Ray adds to it
            batch_size=cfg.batch_size,
            concurrency=(1, pool.workers),
            # Without it Ray waits for a GPU, also where there is none.
            placement_group_config={"bundle_per_worker": pool.resources()},
            runtime_env=cfg.runtime_env,
            should_continue_on_error=True,
            log_engine_metrics=False,
            # In the main environment, like our own steps: only engines need vLLM's.
            chat_template_stage={
                "enabled": cfg.chat,
                "num_cpus": SMALL_CPUS,
                "runtime_env": {},
                "chat_template_kwargs": NO_THOUGHTS,
            },
            tokenize_stage=False,  # the engine does both
            detokenize_stage=False,
        )
        with _quiet_ray():
            processor = build_processor(
                config,
                preprocess=request,
                preprocess_map_kwargs={"num_cpus": SMALL_CPUS},
                postprocess_map_kwargs={"num_cpus": SMALL_CPUS},
            )
        packed = rows.map_batches(_pack, batch_format="pyarrow", num_cpus=SMALL_CPUS)
        return processor(packed).map_batches(_unpack, batch_format="pyarrow", num_cpus=SMALL_CPUS)

    return stage


@contextmanager
def _quiet_ray() -> Iterator[None]:
    """Building a processor calls `ray.init` once more, which makes Ray's log chatty for good."""
    ray_log = logging.getLogger("ray")
    level = ray_log.level
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        ray_log.setLevel(level)


def _pack(rows: pa.Table) -> pa.Table:
    """Prompt and seed, and the whole row as Arrow bytes: past the engine, untouched by it.

    `ray.data.llm` makes Python objects of all columns, adds some twenty of its own, and takes a
    column called `model` for an adapter's name.
    """
    return rows.select(["prompt", "seed"]).append_column(
        "row", pa.array([_bytes(rows.slice(i, 1)) for i in range(len(rows))], pa.binary())
    )


def _bytes(row: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as stream:
        stream.write_table(row)
    return sink.getvalue().to_pybytes()


def _unpack(answers: pa.Table) -> pa.Table:
    rows = [pa.ipc.open_stream(row.as_py()).read_all() for row in answers["row"]]
    texts, errors = answers["generated_text"], answers["__inference_error__"]
    return answered(
        pa.concat_tables(rows, promote_options="permissive").combine_chunks(),
        zip(texts.to_pylist(), errors.to_pylist(), strict=True),
    )
