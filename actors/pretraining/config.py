"""What moment-DINO pretraining trains, and how."""

import dataclasses
from dataclasses import dataclass, field

from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from models.moment_adapter import BelowOne
from models.moment_dino import MomentDinoConfig
from models.precision import TrainPrecision
from models.views import ViewConfig


@dataclass(frozen=True, kw_only=True)
class LocalCrops:
    """Small crops that only the student sees, compared with both of the teacher's views.

    Source: multi-crop (Caron et al., 2020), with DINOv2's areas; the released recipe has none.
    """

    count: NonNegativeInt = 0
    """Local crops of a caption, in turn of its two images."""
    size: PositiveInt = 96
    """Pixels on a side; a multiple of the backbone's patch size."""
    smallest_crop: PositiveFloat = 0.05
    """Smallest part of the image's area in a local crop."""
    largest_crop: PositiveFloat = 0.32
    """Largest part of the image's area in a local crop."""

    def views(self, config: ViewConfig) -> ViewConfig:
        """How a local crop is drawn, by what holds for whole views; blurred half of the time."""
        return dataclasses.replace(
            config,
            smallest_crop=self.smallest_crop,
            largest_crop=self.largest_crop,
            blur=(0.5, 0.5),
            solarise=(0.0, 0.0),
        )


@dataclass(frozen=True, kw_only=True)
class PretrainerConfig:
    """What is trained and how; the defaults are the recipe released for ViT-B/16."""

    model: MomentDinoConfig = field(default_factory=MomentDinoConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    local: LocalCrops = field(default_factory=LocalCrops)
    epochs: PositiveInt = 100
    """Passes over the captions of the base set; all schedules follow from its size."""
    batch_size: PositiveInt = 200
    """Captions per step over all workers, each in two views; at least two for each worker."""
    lr: PositiveFloat = 1.953125e-5
    """AdamW's learning rate at the start (1e-4 for 1,024 captions, linear in the batch size)."""
    lr_end: PositiveFloat = 5e-6
    """Learning rate at the end, by a cosine."""
    betas: tuple[ClosedUnitInterval, ClosedUnitInterval] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.04
    """Weight decay at the start, on every trained weight."""
    weight_decay_end: NonNegativeFloat = 0.4
    """Weight decay at the end, by a cosine."""
    clip: PositiveFloat = 3.0
    """Largest norm of the gradient of each component of the student."""
    teacher_momentum: ClosedUnitInterval = 0.996
    """Share of the old teacher in the new one at the start; 1 at the end, by a cosine."""
    teacher_temperature: PositiveFloat = 0.04
    """Temperature of the teacher's softmax at the start."""
    teacher_temperature_end: PositiveFloat = 0.07
    """Temperature of the teacher's softmax after a straight line, then kept."""
    teacher_temperature_epochs: NonNegativeFloat = 30.0
    """Epochs from the first to the last temperature of the teacher."""
    frozen_epochs: NonNegativeFloat = 1.0
    """Epochs in which the heads' prototypes stand still."""
    held_out: BelowOne = 0.0
    """Part of the captions that is not trained on, so that the teacher can be tried on it."""
    masked_share: ClosedUnitInterval = 0.5
    """Part of the crops that the student sees masked."""
    mask_ratio: tuple[ClosedUnitInterval, ClosedUnitInterval] = (0.1, 0.5)
    """Smallest and largest part of a masked crop's patches that are hidden."""
    precision: TrainPrecision = "auto"
    """Arithmetic of matrix products; "auto" takes bfloat16 where the hardware has it. float16
    scales the loss, by a factor that is halved after a step that is not finite."""
    compile: bool = False
    """Whether torch.compile makes kernels of the transformer blocks: minutes at the start, less
    time per step on a GPU."""
    recompute: bool = False
    """Whether the backward pass computes the blocks' activations again: less memory, more time."""
    log_every: PositiveInt = 10
    """Steps between rows of metrics."""
    max_skipped: PositiveInt = 10
    """Steps in a row whose loss or gradient may be infinite or NaN before the run ends."""
    seed: NonNegativeInt = 0

    def count_held_out(self, captions: int) -> int:
        """Captions that are not trained on, of all that the base set has."""
        return int(self.held_out * captions)
