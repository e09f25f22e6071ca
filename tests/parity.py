"""python -m tests.parity DIR: largest relative error per quantity against a golden folder.

A golden folder holds weights, inputs and outputs of an original implementation; its config.json
says every size. Exits with 1 if an error is above 1e-4.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.distillation import sinkhorn, teacher_targets
from kernels.fusion import Rule, sweep
from kernels.moments import moments
from models.building import clip_from_config
from models.clip import Clip
from models.dino_head import HeadConfig
from models.moment_adapter import AdapterConfig
from models.moment_dino import Branch, MomentDino, MomentDinoConfig
from models.released.teacher import BranchState, read_branch
from models.weights import State
from tests.parity_fsnl import check as fsnl_errors

ALLOWED = 1e-4
NOISE = 1e-5
"""Gradients smaller than this, relative to their component's largest, are rounding in float32."""
PARTS = ("student", "teacher")

Errors = dict[str, float]
"""Largest relative error by quantity."""


def parity(folder: Path) -> Errors:
    """Compares this project with one golden folder, whichever of the two kinds it is."""
    config = json.loads((folder / "config.json").read_text())
    if "adapter" in config:
        return imaginefsl_errors(folder, config)
    return fsnl_errors(folder)


def imaginefsl_errors(folder: Path, config: dict[str, Any]) -> Errors:
    """Moment-DINO pretraining: forward passes, three optimisation steps, and single kernels."""
    golden = {k: torch.from_numpy(v) for k, v in np.load(folder / "golden.npz").items()}
    teacher = read_branch(folder / "teacher_checkpoint.pth")
    student = read_branch(folder / "student_init.pth", "student")
    after = {part: read_branch(folder / "after_3_steps.pth", part) for part in PARTS}
    backbone = golden_clip(config, teacher)
    model = _model(config, backbone, student, teacher)
    errors: Errors = {}
    images, masks = golden["images"], golden["masks"]
    with torch.no_grad():
        masked = backbone.encode_tokens(images, masks, model.student.mask_token)
        _note(errors, "tokens", backbone.encode_tokens(images), golden["backbone_tokens"])
        _note(errors, "masked tokens", masked, golden["backbone_tokens_masked"])
        _note(errors, "moments", moments(golden["moments.in"]), golden["moments.out"])
    probs = sinkhorn(golden["sinkhorn.in"], 0.07, 3)
    _note(errors, "sinkhorn", probs, golden["sinkhorn.out"])
    _fusion(errors, golden)
    largest_gradients = _three_steps(errors, config, golden, model, backbone)
    slack = _adam_slack(config, largest_gradients)
    _note_weights(
        errors, "student after three steps", model.student, after["student"].trained, slack
    )
    share = (1 - config["ema_momentum"]) * len(config["teacher_temps"])
    slack = {name: allowed * share for name, allowed in slack.items()}
    _note_weights(
        errors, "teacher after three steps", model.teacher, after["teacher"].trained, slack
    )
    return errors


def _fusion(errors: Errors, golden: dict[str, Tensor]) -> None:
    """Accuracy at every fusion weight, by both of the original's rules."""
    visual, text, target, weights = (
        golden[f"fusion.{name}"] for name in ("visual", "text", "target", "weights")
    )
    rules: tuple[Rule, ...] = ("normalised", "additive")
    for rule in rules:
        accuracy = sweep(visual, text, target, weights, torch.ones(1), rule)[0]
        _note(errors, f"fusion, {rule}", accuracy, golden[f"fusion.{rule}_acc"])


def _three_steps(
    errors: Errors, config: dict[str, Any], golden: dict[str, Tensor], model: MomentDino, clip: Clip
) -> dict[str, Tensor]:
    """The golden's steps; returns the largest absolute gradient of every weight over them."""
    recipe, weights = config["optimizer"], model.config.weights
    trained = dict(model.student.named_parameters())
    optimizer = torch.optim.AdamW(
        trained.values(), recipe["lr"], recipe["betas"], weight_decay=recipe["weight_decay"]
    )
    largest = {name: torch.zeros_like(weight) for name, weight in trained.items()}
    for number, temperature in enumerate(config["teacher_temps"]):
        expected = {
            k.removeprefix(f"step{number}."): v
            for k, v in golden.items()
            if k.startswith(f"step{number}.")
        }
        step = model(clip, golden["images"], golden["masks"], temperature)
        step.loss.backward()
        _note(errors, "dino loss", weights.dino * step.dino, expected["dino_loss"])
        _note(errors, "ibot loss", weights.ibot * step.ibot, expected["ibot_loss"])
        _note(errors, "koleo", step.koleo, expected["koleo"])
        _note(errors, "loss", step.loss, expected["loss"])
        for part in ("dino", "ibot"):
            logits, centre = getattr(step.teacher, part), getattr(model, f"{part}_centre")
            probs = teacher_targets(logits, centre, temperature, model.config.centering)
            if part == "dino":
                probs = probs.unflatten(0, (2, -1)).flip(0)  # the original's views are swapped
            _note(errors, f"teacher probs {part}", probs, expected[f"teacher_probs_{part}"])
        _note_gradients(errors, model.student, expected)
        for name, weight in trained.items():
            assert weight.grad is not None
            largest[name] = torch.maximum(largest[name], weight.grad.abs())
        if config["grad_clip"] is not None:
            torch.nn.utils.clip_grad_norm_(trained.values(), config["grad_clip"])
        optimizer.step()
        optimizer.zero_grad()
        model.move_teacher(step, config["ema_momentum"])
    _note(errors, "teacher moments", step.teacher.moments, golden["teacher_moments"])
    return largest


def _adam_slack(config: dict[str, Any], gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """How far weights may differ for a reason that is no error, by name, in the weight's unit.

    Adam divides a gradient by its own size. Where it is nothing but rounding (the bias of the keys:
    softmax does not depend on it) the weight moves by up to the learning rate in a random
    direction, in the original as here. Such weights, with gradients below NOISE of the component's
    largest, may lie twice the learning rate apart per step; all others have no slack.
    """
    components = {name: name.split(".")[0] for name in gradients}
    largest: dict[str, float] = {}
    for name, gradient in gradients.items():
        part = components[name]
        largest[part] = max(largest.get(part, 0.0), float(gradient.max()))
    apart = 2 * config["optimizer"]["lr"] * len(config["teacher_temps"])
    return {
        name: (gradient < NOISE * largest[components[name]]) * apart
        for name, gradient in gradients.items()
    }


def _note_weights(
    errors: Errors,
    quantity: str,
    branch: Branch,
    after: State,
    slack: dict[str, Tensor],
) -> None:
    for name, weight in branch.state_dict().items():
        _note(errors, quantity, weight, after[name], slack.get(name, torch.zeros(())))
    loose = sum(int((allowed > 0).sum()) for allowed in slack.values())
    total = sum(allowed.numel() for allowed in slack.values())
    print(f"{quantity}: {loose} of {total} weights have no gradient but rounding")


def _note_gradients(errors: Errors, student: Branch, expected: dict[str, Tensor]) -> None:
    gradient = student.mask_token.grad
    assert gradient is not None
    _note(errors, "gradient of the mask token", gradient, expected["grad_mask_token"])
    for part, weights in student.components().items():
        if f"grad_norm.{part}" in expected:
            grads = [weight.grad for weight in weights if weight.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            _note(errors, f"gradient norm of {part}", norm, expected[f"grad_norm.{part}"])


def golden_clip(config: dict[str, Any], teacher: BranchState) -> Clip:
    """The golden's image tower inside a CLIP whose text tower plays no part."""
    clip = clip_from_config(
        {
            "embed_dim": config["embed_dim"],
            "quick_gelu": True,
            "vision_cfg": {
                "image_size": config["resolution"],
                "patch_size": config["patch"],
                "width": config["width"],
                "layers": config["layers"],
                "head_width": config["width"] // config["heads"],
            },
            "text_cfg": {"width": 8, "heads": 1, "layers": 1},
        }
    )
    clip.model.visual.load_state_dict(teacher.visual, strict=True)
    return clip_from_config(clip.config, clip.model.state_dict())  # its hash is of these weights


def _model(
    config: dict[str, Any], backbone: Clip, student: BranchState, teacher: BranchState
) -> MomentDino:
    adapter, heads = config["adapter"], (config["dino_head"], config["ibot_head"])
    dino_head, ibot_head = (
        HeadConfig(
            prototypes=head["out_dim"],
            hidden=head["hidden_dim"],
            bottleneck=head["bottleneck_dim"],
        )
        for head in heads
    )
    model = MomentDino(
        backbone,
        MomentDinoConfig(
            adapter=AdapterConfig(
                depth=adapter["depth"],
                inner=adapter["qkv_dim"],
                heads=adapter["num_heads"],
                mlp_ratio=adapter["mlp_ratio"],
                drop_path=adapter["drop_path"],
            ),
            dino_head=dino_head,
            ibot_head=ibot_head,
            centre_momentum=config["center_momentum"],
            student_temperature=config["student_temp"],
        ),
    )
    model.student.load_state_dict(student.trained, strict=True)
    model.teacher.load_state_dict(teacher.trained, strict=True)
    return model


def _note(
    errors: Errors, quantity: str, got: Tensor, expected: Tensor, slack: Tensor | None = None
) -> None:
    """Largest difference over the largest expected value, the worst over all calls."""
    if got.shape != expected.shape:
        raise ValueError(f"{quantity}: shape {tuple(got.shape)}, golden {tuple(expected.shape)}")
    if not expected.isfinite().all():
        print(f"{quantity}: not compared, the golden's own value is not finite")
        return
    difference = (got.detach().double() - expected.double()).abs().nan_to_num(math.inf)
    if slack is not None:
        difference = (difference - slack).clamp(min=0)
    error = float(difference.max() / expected.double().abs().max().clamp(min=1e-12))
    errors[quantity] = max(errors.get(quantity, 0.0), error)


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or not (Path(arguments[0]) / "config.json").is_file():
        print("usage: python -m tests.parity DIR, a golden folder with a config.json")
        return 2
    errors = parity(Path(arguments[0]))
    for quantity, error in errors.items():
        print(f"{quantity:<32} {error:9.2e}{'' if error <= ALLOWED else '   TOO LARGE'}")
    return int(any(not error <= ALLOWED for error in errors.values()))


if __name__ == "__main__":
    sys.exit(main())
