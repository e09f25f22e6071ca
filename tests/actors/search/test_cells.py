"""Methods, hyper-parameters and spaces that cannot be are refused where they are declared."""

from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from actors.search.cells import MethodConfig, declared_cells, require_methods
from actors.search.spaces import Choice, Range
from cluster.errors import ConfigError
from models.methods import METHODS
from models.methods.clip_lora import CROP_AND_FLIP

FSNL = MethodConfig(method="fsnl", shots=[4])


def refusal(config: MethodConfig, val_policy: Any = "min") -> str:
    with pytest.raises(ConfigError) as refused:
        require_methods("methods", {"m": config}, val_policy)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_an_unknown_method_is_told_all_methods() -> None:
    message = refusal(replace(FSNL, method="imaginfsl"))
    assert message.startswith("methods.m.method: 'imaginfsl' is unknown; allowed: ")
    assert all(method in message for method in METHODS)


def test_an_unknown_hyper_parameter_is_told_all_of_the_method_with_types_and_defaults() -> None:
    message = refusal(replace(FSNL, hyper={"step": 3}))
    assert message.startswith("methods.m.hyper.step: 3; allowed fields: lr (float >0; 0.0002); ")
    assert "loss (full, base, caption, clip; full)" in message
    message = refusal(replace(FSNL, hyper={"adapter": {"width": 3}}))
    assert message.startswith("methods.m.hyper.adapter.width: 3; allowed fields: depth (int >0; 4)")


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": "fast"}, "lr: 'fast'; allowed: float >0"),
        ({"lr": 0}, "lr: 0; allowed: float >0"),
        ({"lr": None}, "lr: None; allowed: float >0"),
        ({"lr": float("inf")}, "lr: inf; allowed: finite numbers"),
        ({"lr": float("nan")}, "lr: nan; allowed: float >0"),
        ({"epochs": 1.5}, "epochs: 1.5; allowed: int >0"),
        ({"epochs": True}, "epochs: True; allowed: int >0"),
        ({"imagined_weight": 1.1}, "imagined_weight: 1.1; allowed: float ≥0 and ≤1"),
        ({"loss": "most"}, "loss: 'most'; allowed: full, base, caption, clip"),
        ({"fixed_length": 1}, "fixed_length: 1; allowed: bool"),
        ({"adapter": {"depth": 0}}, "adapter.depth: 0; allowed: int >0"),
        ({"adapter": {"drop_path": 1}}, "adapter.drop_path: 1; allowed: float ≥0 and <1"),
        ({"adapter": 4}, "adapter: 4; allowed: a mapping of depth, "),
    ],
)
def test_a_bad_hyper_parameter_is_one_line(hyper: dict[str, Any], message: str) -> None:
    assert refusal(replace(FSNL, hyper=hyper)).startswith(f"methods.m.hyper.{message}")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"step": Range(low=1, high=2)}, "step: 1.0; allowed fields: lr (float >0; "),
        ({"lr": Range(low=0, high=1)}, "lr: 0.0; allowed: float >0"),
        ({"lr": Range(low=1, high=0.1)}, "lr: from 1.0 to 0.1; allowed: low at most high"),
        ({"epochs": Range(low=1.5, high=9)}, "epochs: 1.5; allowed: int >0"),
        ({"loss": Range(low=0, high=1)}, "loss: 0.0; allowed: full, base, caption, clip"),
        ({"fixed_length": Range(low=0, high=1)}, "fixed_length: 0.0; allowed: bool"),
        ({"momentum": Range(low=0, high=1, log=True)}, "momentum: from 0.0 to 1.0 (log); allowed"),
        ({"loss": Choice(choices=["full", "most"])}, "loss: 'most'; allowed: full, base, "),
        ({"epochs": Choice(choices=[10, "many"])}, "epochs: 'many'; allowed: int >0"),
        ({"loss": Choice(choices=[])}, "loss.choices: []; allowed: one value at least"),
    ],
)
def test_a_bad_space_is_one_line(space: dict[str, Any], message: str) -> None:
    space = {
        name: Range(low=float(s.low), high=float(s.high), log=s.log) if isinstance(s, Range) else s
        for name, s in space.items()
    }  # as the command line gives them
    said = refusal(replace(FSNL, space=space, trials=2))
    assert said.startswith(f"methods.m.space.{message}")


def test_trials_need_val_images_and_a_space() -> None:
    searched = replace(FSNL, space={"lr": Range(low=0.1, high=1.0)}, trials=2)
    require_methods("methods", {"m": searched}, "min")
    no_val = "methods.m.trials: 2 with val_policy 'none' and shots [4]; allowed: 0"
    assert refusal(searched, "none").startswith(no_val)
    no_shots = "methods.m.trials: 2 with val_policy 'min' and shots [4, 0]; allowed: 0"
    assert refusal(replace(searched, shots=[4, 0])).startswith(no_shots)
    assert refusal(replace(searched, space={})) == "methods.m.trials: 2; allowed: 0 without a space"


def test_what_all_methods_share_gives_way_to_what_a_method_says() -> None:
    methods = {
        "one": MethodConfig(method="clip_adapter", shots=[1], hyper={"ratio": 1}),
        "other": MethodConfig(method="clip_adapter", shots=[1], hyper={"templates": "ensemble"}),
        "without": replace(FSNL, hyper={"adapter": {"depth": 2}}),
    }
    cells = declared_cells(["toys"], methods, {"templates": "prompts", "adapter": {"depth": 7}})
    one, other, without = (cell.hyper for cell in cells)
    assert (one.templates, one.ratio, one.lr) == ("prompts", 1.0, 0.01)
    assert other.templates == "ensemble"
    assert (without.adapter.depth, without.adapter.inner) == (2, 384)


def test_a_part_of_a_nested_setting_leaves_the_method_s_own_defaults() -> None:
    hyper = {"augmentation": {"smallest_crop": 0.6}, "towers": ["image"]}
    config = MethodConfig(method="clip_lora", shots=[1], hyper=hyper)
    (cell,) = declared_cells(["toys"], {"m": config}, {})
    assert cell.hyper.augmentation == replace(CROP_AND_FLIP, smallest_crop=0.6)
    assert cell.hyper.towers == ("image",)


def test_the_field_says_whether_numbers_of_a_range_are_whole() -> None:
    numbers = Range(low=1.0, high=9.0)
    config = MethodConfig(
        method="taskres", shots=[1], space={"epochs": numbers, "lr": numbers}, trials=1
    )
    (cell,) = declared_cells(["toys"], {"m": config}, {})
    assert cell.hyper.epochs is None
    assert cell.distributions() == {
        "epochs": IntDistribution(1, 9),
        "lr": FloatDistribution(1.0, 9.0),
    }


@pytest.mark.parametrize("method", METHODS)
def test_every_hyper_parameter_that_is_a_number_has_a_range(method: str) -> None:
    kinds = get_type_hints(METHODS[method].Hyper)
    assert kinds
    for name, kind in kinds.items():
        assert not {int, float} & set(get_args(kind) or [kind]), name
