"""SD3's denoiser as an ONNX graph under ONNX Runtime, in place of the pipeline's torch module."""

import shutil
from collections.abc import Sequence
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import onnxruntime
import torch
from diffusers.models import SD3Transformer2DModel
from filelock import FileLock
from torch import Tensor, nn

from models.sd3 import TEXT_TOKENS, denoiser_config, load_model, weights_hash

TENSORRT = "TensorrtExecutionProvider"
CPU = "CPUExecutionProvider"
_TEXT_TOKENS = sum(TEXT_TOKENS.values())
_FILE = "denoiser.onnx"
_ELEMENT = {torch.float32: 1, torch.float16: 10}
"""ONNX's numbers for these types."""


class OnnxDenoiser(nn.Module):
    """Called as the pipeline calls SD3Transformer2DModel, whose config it shows."""

    def __init__(self, session: onnxruntime.InferenceSession, config: Any) -> None:
        super().__init__()
        self.session = session
        self.config = config
        self.dtype = (
            torch.float16 if session.get_inputs()[0].type == "tensor(float16)" else torch.float32
        )
        self.device = torch.device("cpu" if session.get_providers()[0] == CPU else "cuda")

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
        joint_attention_kwargs: None = None,
        return_dict: Literal[False] = False,
    ) -> tuple[Tensor]:
        """One step for all latents.

        hidden_states: (B, C, H, W) latents; timestep: (B,) in 0..1000; encoder_hidden_states:
        (B, 333, D); pooled_projections: (B, P). Returns one tensor like the latents.
        """
        inputs = {
            "hidden_states": hidden_states.to(self.device, self.dtype),
            "timestep": timestep.to(self.device, torch.float32),
            "encoder_hidden_states": encoder_hidden_states.to(self.device, self.dtype),
            "pooled_projections": pooled_projections.to(self.device, self.dtype),
        }
        inputs = {name: tensor.contiguous() for name, tensor in inputs.items()}
        sample = torch.empty_like(inputs["hidden_states"])
        binding = self.session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(name, *_buffer(tensor))
        binding.bind_output("sample", *_buffer(sample))
        if sample.is_cuda:  # ONNX Runtime works on a stream of its own
            torch.cuda.current_stream().synchronize()
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return (sample.to(hidden_states),)


def load_onnx_denoiser(
    folder: Path, cache: Path, batch: int, side: int, providers: Sequence[str]
) -> OnnxDenoiser:
    """The denoiser of a checkpoint's folder, exported first if this node has not done so.

    cache: where the node keeps graphs, each named by a hash of its weights, shapes and exporter.
    batch: of all calls to come, twice the pictures with guidance. side: of the latents.
    Processes that ask for one graph wait for each other: it, and TensorRT's engine, are made once.
    Where a GPU comes first the graph is in float16: ONNX Runtime has no convolution in bfloat16.
    Raises ValueError as `models.sd3.load_model`, `check_providers` and `open_session`.
    """
    check_providers(providers)
    dtype = torch.float32 if providers[0] == CPU else torch.float16
    exporter = [version(name) for name in ("diffusers", "onnxscript", "torch")]
    recipe = [weights_hash(folder, ["transformer"]), str(dtype), side, _TEXT_TOKENS, exporter]
    exported = cache / f"denoiser-{blake2b(repr(recipe).encode(), digest_size=16).hexdigest()}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{exported}.lock"):
        if not exported.is_dir():
            aside = exported.with_suffix(".partial")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            export(load_model(folder, "transformer", dtype), side, aside / _FILE)
            aside.rename(exported)
        config = denoiser_config(folder)
        shapes = input_shapes(config, batch, side)
        return OnnxDenoiser(open_session(exported / _FILE, providers, shapes), config)


def check_providers(providers: Sequence[str]) -> None:
    """Raises ValueError for one that this node's ONNX Runtime was built without."""
    available = onnxruntime.get_available_providers()
    if missing := [name for name in providers if name not in available]:
        raise ValueError(f"providers: {', '.join(missing)}; allowed here: {', '.join(available)}")


def input_shapes(config: Any, batch: int, side: int) -> dict[str, tuple[int, ...]]:
    """Shape of each input of the graph, in order."""
    return {
        "hidden_states": (batch, config.in_channels, side, side),
        "timestep": (batch,),
        "encoder_hidden_states": (batch, _TEXT_TOKENS, config.joint_attention_dim),
        "pooled_projections": (batch, config.pooled_projection_dim),
    }


def export(transformer: SD3Transformer2DModel, side: int, file: Path) -> None:
    """Writes the graph in the transformer's dtype, its weights in a second file beside it.

    side: of the latents, fixed in the graph; the batch is left open.
    """
    # Two, because torch takes a batch of one for a constant.
    shapes = input_shapes(transformer.config, 2, side)
    example = [
        torch.zeros(shape, dtype=torch.float32 if name == "timestep" else transformer.dtype)
        for name, shape in shapes.items()
    ]
    with torch.no_grad():
        torch.onnx.export(
            _Positional(transformer).eval(),
            tuple(example),
            file,
            input_names=list(shapes),
            output_names=["sample"],
            dynamic_shapes=[{0: torch.export.Dim.DYNAMIC} for _ in example],
            dynamo=True,
            external_data=True,
            verbose=False,
        )


def open_session(
    file: Path, providers: Sequence[str], shapes: dict[str, tuple[int, ...]]
) -> onnxruntime.InferenceSession:
    """The graph, ready to run with the providers in this order of preference.

    shapes: of the inputs in all calls to come; TensorRT builds its engine for just these (minutes)
    and keeps it beside the file. Raises ValueError if a provider does not start.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.use_deterministic_compute = True
    if TENSORRT in providers:
        import_module("tensorrt")  # loads the libraries that the provider looks for
        # TensorRT optimises for itself, and folded weights would leave their file for the graph,
        # which cannot be handed over beyond 2 GB.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    profile = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
    tensorrt = {
        "trt_fp16_enable": True,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": file.parent / "tensorrt",
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": file.parent / "tensorrt",
        "trt_profile_min_shapes": profile,
        "trt_profile_opt_shapes": profile,
        "trt_profile_max_shapes": profile,
    }
    session = onnxruntime.InferenceSession(
        file,
        options,
        [(name, tensorrt if name == TENSORRT else {}) for name in providers],
        enable_fallback=False,  # to another provider, with a print
    )
    if silent := [name for name in providers if name not in session.get_providers()]:
        raise ValueError(
            f"providers: {', '.join(silent)} did not start (the log says why); "
            f"allowed are those that do: {', '.join(session.get_providers())}"
        )
    return session


class _Positional(nn.Module):
    """The transformer with the graph's inputs as its only arguments."""

    def __init__(self, transformer: SD3Transformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
    ) -> Tensor:
        return self.transformer(
            hidden_states=hidden_states,
            timestep=timestep,
            encoder_hidden_states=encoder_hidden_states,
            pooled_projections=pooled_projections,
            return_dict=False,
        )[0]


def _buffer(tensor: Tensor) -> tuple[str, int, int, tuple[int, ...], int]:
    """What ONNX Runtime takes for a tensor's memory."""
    device = tensor.device
    return (
        device.type,
        device.index or 0,
        _ELEMENT[tensor.dtype],
        tuple(tensor.shape),
        tensor.data_ptr(),
    )
