"""Stable Diffusion 3 from a checkpoint in diffusers' folder layout; diffusers has the pipeline.

The parts are loaded one by one, not by `StableDiffusion3Pipeline.from_pretrained`: that one imports
what the checkpoint names, fills missing tensors with random numbers and a missing vocabulary with
nothing, and says so in a log at most. Only safetensors are read, and from a folder nothing is ever
fetched.
"""

import json
from collections.abc import Collection, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models import AutoencoderKL, SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import (
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
    T5Tokenizer,
)

_MODELS: dict[str, Any] = {
    "transformer": SD3Transformer2DModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModelWithProjection,
    "text_encoder_2": CLIPTextModelWithProjection,
    "text_encoder_3": T5EncoderModel,
}
_TOKENIZERS: dict[str, Any] = {
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
    "tokenizer_3": T5Tokenizer,
}
PARTS = ("scheduler", *_MODELS, *_TOKENIZERS)
"""Folders of a checkpoint."""
T5 = ("text_encoder_3", "tokenizer_3")
"""The parts that a pipeline can do without."""
TEXT_TOKENS = {"clip": 77, "t5": 256}
"""Tokens to which the pipeline pads every prompt, and after which it cuts."""
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")
_READ = {".json", ".model", ".safetensors", ".txt"}
"""Suffixes of the files that loading can read."""


def checkpoint_folder(model: str, revision: str, left_out: Collection[str]) -> Path:
    """The checkpoint as a local folder: `model` itself, or a tag of the Hugging Face hub.

    A tag (OWNER/NAME) is fetched into the hub's cache, but for the parts left out, or taken from
    there if the hub cannot be reached; a token comes from the environment (HF_TOKEN).
    Raises ValueError, naming the model, if there is no such folder or tag.
    """
    folder = Path(model)
    if not folder.is_dir():
        passed = dict.fromkeys(left_out)
        try:
            fetched = StableDiffusion3Pipeline.download(
                model, revision=revision, use_safetensors=True, **passed
            )
            folder = Path(fetched)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model: {model!r} is no folder here and cannot be had from the hub "
                f"({_one_line(error)}); allowed: a local folder, or OWNER/NAME of the hub"
            ) from error
    index = _json(folder / "model_index.json")
    if index.get("_class_name") != "StableDiffusion3Pipeline":
        raise ValueError(
            f"model: {str(folder)!r} holds no StableDiffusion3Pipeline; allowed: a checkpoint of "
            "Stable Diffusion 3 in diffusers' folder layout"
        )
    return folder


def weights_hash(folder: Path, parts: Iterable[str]) -> str:
    """32 hex digits over names and bytes of all files that loading these parts can read."""
    state = blake2b(digest_size=16)
    for file in sorted(file for part in parts for file in (folder / part).iterdir()):
        if file.suffix in _READ:
            state.update(f"{file.parent.name}/{file.name} {file.stat().st_size};".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 24):
                    state.update(block)
    return state.hexdigest()


def load_pipeline(
    folder: Path, dtype: torch.dtype, left_out: Collection[str]
) -> StableDiffusion3Pipeline:
    """The pipeline on the CPU, weights in `dtype`, progress bars off.

    left_out: parts that are None in it. Without T5 the pipeline takes zeros for its embeddings;
    a transformer must then be given to it.
    Raises ValueError, naming the folder, if a part is missing, broken or of another model.
    """
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    parts: dict[str, Any] = dict.fromkeys(left_out)
    parts |= {part: _tokenizer(folder, part) for part in _TOKENIZERS if part not in left_out}
    parts |= {part: load_model(folder, part, dtype) for part in _MODELS if part not in left_out}
    pipeline = StableDiffusion3Pipeline(scheduler=_scheduler(folder), **parts)
    pipeline.tokenizer_max_length = TEXT_TOKENS["clip"]  # whatever the tokenizer's file says
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_model(folder: Path, part: str, dtype: torch.dtype) -> Any:
    """One model of the checkpoint, on the CPU, in evaluation mode; errors as `load_pipeline`."""
    _require_folder(folder, part)
    try:
        model, info = _MODELS[part].from_pretrained(
            folder / part,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # a broken file raises whatever the library trips over
        raise _unloadable(folder, part, _one_line(error)) from error
    if info["missing_keys"]:
        raise _unloadable(folder, part, f"no tensor {min(info['missing_keys'])}")
    return model.eval()


def denoiser_config(folder: Path) -> Any:
    """Configuration of the `transformer`, with its defaults; errors as `load_pipeline`."""
    _require_folder(folder, "transformer")
    try:
        with torch.device("meta"):
            settings = SD3Transformer2DModel.load_config(folder / "transformer")
            return SD3Transformer2DModel.from_config(settings).config
    except Exception as error:
        raise _unloadable(folder, "transformer", _one_line(error)) from error


def _scheduler(folder: Path) -> FlowMatchEulerDiscreteScheduler:
    """Raises ValueError for one that draws noise of its own: no seed of ours reaches it."""
    _require_folder(folder, "scheduler")
    settings = _json(folder / "scheduler" / "scheduler_config.json")
    name = settings.get("_class_name")
    if name != "FlowMatchEulerDiscreteScheduler" or settings.get("stochastic_sampling"):
        raise _unloadable(folder, "scheduler", f"{name!r} is not a deterministic Euler scheduler")
    return FlowMatchEulerDiscreteScheduler.from_config(settings)


def _tokenizer(folder: Path, part: str) -> CLIPTokenizer | T5Tokenizer:
    _require_folder(folder, part)
    if not any((folder / part / name).is_file() for name in _VOCABULARIES):
        raise _unloadable(folder, part, f"none of {', '.join(_VOCABULARIES)}")
    try:
        return _TOKENIZERS[part].from_pretrained(folder / part, local_files_only=True)
    except Exception as error:
        raise _unloadable(folder, part, _one_line(error)) from error


def _require_folder(folder: Path, part: str) -> None:
    if not (folder / part).is_dir():
        raise _unloadable(folder, part, "no such folder")


def _unloadable(folder: Path, part: str, why: str) -> ValueError:
    return ValueError(
        f"model: {part!r} of {str(folder)!r} cannot be loaded ({why}); allowed: a whole checkpoint "
        "of Stable Diffusion 3 in diffusers' folder layout, weights as safetensors"
    )


def _json(file: Path) -> dict[str, Any]:
    """A JSON object; empty if the file is missing or holds anything else."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _one_line(error: Exception) -> str:
    cause = f": {error.__cause__}" if error.__cause__ else ""
    return " ".join(f"{error}{cause}".split())
