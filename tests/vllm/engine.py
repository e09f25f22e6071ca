"""How vLLM runs a tiny model on a CPU: in the environment that `make test-vllm` makes."""

from pathlib import Path
from typing import Any

from cluster.pool import Pool

VLLM_PYTHON = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
VLLM_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
    "VLLM_NO_USAGE_STATS": "1",
    # One thread, not one that waits busily on every core, and one process less to start.
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
CONTEXT = 256
"""Tokens of a prompt and its text together."""


ENGINE_POOL = Pool(workers=1, cpus=0.5)


def settings(model: Path) -> dict[str, Any]:
    """An engine for a model of `make_tiny_llama`, for a driver in the main environment."""
    return {
        "model": str(model),
        "engine": {
            "dtype": "float32",  # in bfloat16 a text can depend on the batch
            "enforce_eager": True,
            "gpu_memory_utilization": 0.3,  # of the RAM, on a CPU
            "max_model_len": CONTEXT,
            "max_num_batched_tokens": CONTEXT,  # few prompts at once fill it
        },
        "batch_size": 8,
        "runtime_env": {"py_executable": str(VLLM_PYTHON), "env_vars": VLLM_ENVIRONMENT},
    }
