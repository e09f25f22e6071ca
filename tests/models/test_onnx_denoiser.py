import os
import subprocess
import sys
from pathlib import Path

import torch

from models.onnx_denoiser import CPU, OnnxDenoiser, export, input_shapes, open_session
from models.sd3 import denoiser_config, load_model
from tests.actors.synthesis.tiny_sd3 import save_tiny_sd3


def test_half_precision_as_on_a_gpu(tmp_path: Path) -> None:
    """The graph that CUDA and TensorRT take, here by the CPU provider's casts; any batch."""
    save_tiny_sd3(tmp_path)
    config = denoiser_config(tmp_path)
    graph = tmp_path / "denoiser.onnx"
    export(load_model(tmp_path, "transformer", torch.half), 8, graph)
    half = OnnxDenoiser(open_session(graph, [CPU], input_shapes(config, 3, 8)), config)
    full = load_model(tmp_path, "transformer", torch.float)
    assert half.dtype == torch.half
    for batch in (1, 3):
        rng = torch.Generator().manual_seed(batch)
        inputs = {
            name: torch.randn(shape, generator=rng)
            for name, shape in input_shapes(config, batch, 8).items()
        } | {"timestep": torch.tensor(730.0).expand(batch)}
        with torch.no_grad():
            (expected,) = full(**inputs, return_dict=False)
        (noise,) = half(**{name: tensor.bfloat16() for name, tensor in inputs.items()})
        assert noise.dtype == torch.bfloat16  # the dtype of the latents goes through the loop
        assert (noise - expected).abs().max() < 0.02 * expected.abs().max()


def test_onnxruntime_reports_to_nobody(tmp_path: Path) -> None:
    """Its telemetry starts with the import, and first of all leaves an identifier in the cache."""
    without = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "import models, onnxruntime"]
    subprocess.run(command, env=without | home, check=True, timeout=300)
    assert list(tmp_path.iterdir()) == []
