"""Paints captions with Stable Diffusion 3 by diffusers, its denoiser in torch or in ONNX."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

from jsonargparse.typing import NonNegativeFloat, PositiveInt
from PIL import Image

from actors.pictures.codec import Encoding, UnpaintableError
from cluster.cache import node_cache
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.rows import row_seed

Provider = Literal["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
SIZE_STEP = 16
"""Pixels per token and direction: SD3's autoencoder takes 8, its denoiser 2 by 2 of these."""
_EXTRAS = "'diffusion' and, for a denoiser in ONNX, 'onnx' (CPU) or 'tensorrt' (GPU)"


@dataclass(frozen=True, kw_only=True)
class Sd3Config:
    """Which Stable Diffusion 3 paints, and how; see `PainterEngine`.

    Raises ConfigError for a size that SD3 cannot paint.
    """

    model: str = "stabilityai/stable-diffusion-3-medium-diffusers"
    """Checkpoint in diffusers' layout with safetensors weights: a local folder, never the network
    then, or OWNER/NAME on the Hugging Face hub, with a token from HF_TOKEN if it asks for one."""
    revision: str = "main"
    """Branch, tag or commit on the hub."""
    drop_t5: bool = False
    """Leave out the T5 text encoder, which is most of the weights; long captions suffer."""
    steps: PositiveInt = 28
    """Denoising steps."""
    guidance: NonNegativeFloat = 7.0
    """Scale of classifier-free guidance; up to 1 there is none, at half the cost."""
    size: PositiveInt = 1024
    """Width and height in pixels, a multiple of 16."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    batch_size: PositiveInt = 4
    """Pictures of one caption in one pass. A short pass is filled up, so choose the number of views
    or a divisor of it."""
    encoding: Encoding = field(default_factory=partial(Encoding, format="jpeg"))
    """How pictures are kept."""
    denoiser: Literal["torch", "onnx"] = "torch"
    """Where the denoiser runs: torch (bfloat16 on a GPU, else float32), or ONNX Runtime (float16 on
    a GPU, else float32), which exports it once per node."""
    providers: tuple[Provider, ...] = unhashed(())
    """ONNX Runtime's execution providers, in order of preference; all must be there. Empty: CUDA
    and CPU where torch has a GPU, else CPU."""

    captions_at_once: ClassVar[int] = 4

    def __post_init__(self) -> None:
        if self.size % SIZE_STEP:
            raise ConfigError(f"size: {self.size}; allowed: a multiple of {SIZE_STEP}")

    @property
    def name(self) -> str:
        """The model's."""
        return self.model

    @property
    def recipe(self) -> str:
        """Names how pictures are made; part of every picture's id."""
        return f"sd3-1 {self.model}"

    def on_any_node(self) -> Self:
        """The same with a local folder by its absolute path."""
        folder = os.path.abspath(os.path.expanduser(self.model))
        return replace(self, model=folder) if os.path.isdir(folder) else self

    def load(self) -> "Sd3Painter":
        """See `Sd3Painter` for what it raises."""
        return Sd3Painter(self)


class Sd3Painter:
    """Loads on the worker that it runs on: bfloat16 on its GPU if it has one, else float32 on CPU.

    `provenance` tells how its pictures are made: generator, weights (hash of the checkpoint's files
    that are used), steps, guidance, size.

    Raises ConfigError, in one line, if a library, the checkpoint or a provider is missing or does
    not fit.
    """

    def __init__(self, cfg: Sd3Config) -> None:
        self.cfg = cfg.on_any_node()
        try:
            self.pipeline, weights = self._load()
        except ImportError as error:
            raise ConfigError(f"painter: {error}; allowed with the extras {_EXTRAS}") from error
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._provenance: dict[str, str | int | float] = {
            "generator": "sd3" if cfg.denoiser == "torch" else "sd3-onnx",
            "weights": weights,
            "steps": cfg.steps,
            "guidance": cfg.guidance,
            "size": cfg.size,
        }

    def _load(self) -> tuple[Any, str]:
        """The pipeline on its device, and the hash of its weights."""
        # Seconds that other painters need not wait; the second needs an extra, too.
        import torch

        from models import sd3

        cfg, gpu = self.cfg, torch.cuda.is_available()
        left_out = sd3.T5 if cfg.drop_t5 else ()
        folder = sd3.checkpoint_folder(cfg.model, cfg.revision, left_out)
        pipeline = sd3.load_pipeline(
            folder,
            torch.bfloat16 if gpu else torch.float32,
            left_out if cfg.denoiser == "torch" else (*left_out, "transformer"),
        )
        denoiser = sd3.denoiser_config(folder)
        largest = denoiser.pos_embed_max_size * denoiser.patch_size * pipeline.vae_scale_factor
        if cfg.size > largest:
            raise ValueError(f"size: {cfg.size}; allowed for {cfg.model!r}: up to {largest}")
        if cfg.denoiser == "onnx":
            from models.onnx_denoiser import load_onnx_denoiser

            pipeline.transformer = load_onnx_denoiser(
                folder,
                node_cache(),
                batch=cfg.batch_size * (2 if cfg.guidance > 1 else 1),
                side=cfg.size // pipeline.vae_scale_factor,
                providers=cfg.providers or _usual_providers(gpu),
            )
        used = [part for part in sd3.PARTS if part not in left_out]
        return pipeline.to("cuda" if gpu else "cpu"), sd3.weights_hash(folder, used)

    def provenance(self, row: Mapping[str, Any]) -> Mapping[str, str | int | float]:
        """See `Painter`; the same for every caption."""
        return self._provenance

    def paint(self, row: Mapping[str, Any], image_ids: Sequence[str]) -> list[Image.Image]:
        """One picture of row["caption"] per id, RGB, (size, size).

        A picture depends on its caption and id alone: every pass has the same shape, and each
        picture a CPU generator of its own, seeded by its id. Raises UnpaintableError for a
        caption that is empty and for a picture that is not finite; a fault of the machine is raised
        as it is.
        """
        caption = row["caption"]
        if not caption or not caption.strip():
            raise UnpaintableError("empty caption")
        step = self.cfg.batch_size
        passes = [image_ids[start : start + step] for start in range(0, len(image_ids), step)]
        return [picture for ids in passes for picture in self._paint_pass(caption, ids)]

    def _paint_pass(self, caption: str, ids: Sequence[str]) -> list[Image.Image]:
        import torch

        # Matrix products of another shape round differently: a short pass is filled up.
        filled = [*ids, *[ids[-1]] * (self.cfg.batch_size - len(ids))]
        pixels = self.pipeline(
            caption,
            negative_prompt=self.cfg.negative_prompt,
            height=self.cfg.size,
            width=self.cfg.size,
            num_inference_steps=self.cfg.steps,
            guidance_scale=self.cfg.guidance,
            num_images_per_prompt=len(filled),
            generator=[torch.Generator("cpu").manual_seed(row_seed(row)) for row in filled],
            output_type="pt",
        ).images[: len(ids)]
        if not torch.isfinite(pixels).all():
            raise UnpaintableError("the picture is not finite")
        processor = self.pipeline.image_processor
        return processor.numpy_to_pil(processor.pt_to_numpy(pixels))


def _usual_providers(gpu: bool) -> tuple[Provider, ...]:
    on_cpu: Provider = "CPUExecutionProvider"
    return ("CUDAExecutionProvider", on_cpu) if gpu else (on_cpu,)
