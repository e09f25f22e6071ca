"""Both searches at ViT-B/16's sizes, from the costs of single steps (`jobs.bench search`)."""

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from actors.features.encoder import view_tokens
from jobs.bench.adapt import B16
from models.building import clip_from_config
from models.methods.imagine_model import ImagineModel
from models.moment_adapter import AdapterConfig

CLASSES, SHOTS, IMAGINED, VAL = 37, 4, 37 * 300, 37 * 4
"""Of the cell that is computed: Pets with an imagined image for each of 300 captions per class, and
4 validation images per class."""
TRAIN, OTHERS = 2944, 736 + 3669
"""Images of Pets in CoOp's split: jobs.encode takes the whole training split, val and test."""
LEARNING_RATES, BUDGETS, PASSES = 4, range(10, 90, 10), 51
"""Of the original's grid: without its patience, and with all fusion weights; and with the least."""
LEAST_BUDGETS, LEAST_PASSES = range(10, 40, 10), 2
TRIALS, HEAD_STEPS, STEPS, VIEWS, EVALUATIONS = 16, 300, 60, 4, 5
"""Of this search: the method's default steps, views of a real image, looks at val in a trial."""
BATCH, IMAGES = 128, 8
REPEATS = 3


def at_sizes() -> dict[str, float]:
    """CPU seconds on one thread, in the precision that both searches have here.

    `forward`: of one image through the tower; `adapter` and `step`: through adapter and heads,
    without and with the way back; all measured with 8 images at random weights. `head_step`: of 128
    pooled images. The hours are computed from them for the cell above; decoding, augmentation and
    the starts of processes count nothing, on either side. `least`: patience ends every learning
    rate after three budgets, and every search of a fusion weight after two. No trial of ours is
    pruned.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clip = clip_from_config(B16)
    model = ImagineModel(clip.embed_dim, CLASSES, AdapterConfig(), "auto")
    views = torch.rand(IMAGES, 3, clip.image_size, clip.image_size)
    labels = torch.randint(CLASSES, (IMAGES,))
    with torch.no_grad():
        tokens = view_tokens(clip, views).float()
        pooled = model.pool(tokens)
    many = pooled.rows(torch.arange(BATCH) % IMAGES)
    many_labels = labels[torch.arange(BATCH) % IMAGES]

    def step() -> None:
        visual, text = model(tokens)
        (cross_entropy(visual, labels) + cross_entropy(text, labels)).backward()

    def head_step() -> None:
        visual, text = model.logits(many)
        (cross_entropy(visual, many_labels) + cross_entropy(text, many_labels)).backward()

    image = _seconds(lambda: view_tokens(clip, views)) / IMAGES
    trained = _seconds(step) / IMAGES
    adapted = _seconds(lambda: model.predict(tokens)) / IMAGES
    of_head = _seconds(head_step)

    def original(budgets: range, passes: int) -> tuple[float, float]:
        """Seconds, and images through the backbone."""
        trainings = LEARNING_RATES * len(budgets)
        images = 2 * IMAGINED * LEARNING_RATES * sum(budgets)
        validated = trainings * passes * VAL
        return (
            images * (image + trained) + validated * (image + adapted),
            images + validated,
        )

    encoded = TRAIN * VIEWS + OTHERS + IMAGINED
    pooling = (CLASSES * SHOTS * VIEWS + IMAGINED + EVALUATIONS * VAL) * adapted
    ours = encoded * image + TRIALS * (pooling + HEAD_STEPS * of_head + STEPS * BATCH * trained)
    most, least = original(BUDGETS, PASSES), original(LEAST_BUDGETS, LEAST_PASSES)
    return {
        "forward_seconds": image,
        "adapter_seconds": adapted,
        "step_seconds": trained,
        "head_step_seconds": of_head,
        "original_hours": most[0] / 3600,
        "original_least_hours": least[0] / 3600,
        "original_forwards": most[1],
        "search_hours": ours / 3600,
        "search_encode_share": encoded * image / ours,
        "search_pooling_share": TRIALS * pooling / ours,
        "search_forwards": encoded,
        "ratio": most[0] / ours,
        "ratio_least": least[0] / ours,
    }


def _seconds(run: Callable[[], object]) -> float:
    """Median CPU seconds, after a run that is not timed."""
    run()
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        run()
        taken.append(time.process_time() - started)
    return statistics.median(taken)
