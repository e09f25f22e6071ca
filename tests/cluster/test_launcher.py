"""ray_cluster.yaml against Ray's own validator, and against what this project says elsewhere."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def launcher() -> dict[str, Any]:
    return prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def commands(launcher: dict[str, Any]) -> list[str]:
    """What is run on nodes before Ray starts, over all groups."""
    groups = launcher["available_node_types"].values()
    per_group = [c for group in groups for c in group.get("worker_setup_commands", [])]
    return [*launcher["setup_commands"], *per_group]


def test_ray_accepts_it(launcher: dict[str, Any]) -> None:
    validate_config(launcher)


def test_ray_would_refuse_a_misspelt_key(launcher: dict[str, Any]) -> None:
    launcher["available_node_types"]["trainer"]["min_worker"] = 1
    with pytest.raises(Exception, match="min_worker"):
        validate_config(launcher)


def test_groups_start_empty_and_are_told_apart(launcher: dict[str, Any]) -> None:
    groups = launcher["available_node_types"]
    assert set(groups) == {"head", "cpu", "writer", "painter", "trainer"}
    assert "GPU" not in groups["head"]["resources"]
    for name in ("writer", "painter", "trainer"):
        assert groups[name]["min_workers"] == 0 < groups[name]["max_workers"]
        assert groups[name]["resources"][name] == groups[name]["resources"]["GPU"]


def test_nodes_run_a_ray_that_the_project_allows(
    launcher: dict[str, Any], project: dict[str, Any]
) -> None:
    """The same in the image and in the environment of vLLM's engines."""
    version = launcher["docker"]["image"].split(":")[1].split("-")[0]
    requirements = [Requirement(line) for line in project["dependencies"]]
    assert [r for r in requirements if r.name == "ray" and r.specifier.contains(version)]
    assert any(f"ray[data]=={version}" in command for command in commands(launcher))


def test_setup_commands_name_extras_that_exist(
    launcher: dict[str, Any], project: dict[str, Any]
) -> None:
    asked = {
        extra
        for extras in re.findall(r"/imagine-beyond\[(.*?)\]", "\n".join(commands(launcher)))
        for extra in extras.split(",")
    }
    assert asked == {"vllm-driver", "diffusion", "tensorrt", "gpu"}
    assert asked <= set(project["optional-dependencies"])


def test_mounted_files_exist(launcher: dict[str, Any]) -> None:
    mounted = [path for path in launcher["file_mounts"].values() if not path.startswith("~")]
    assert mounted
    assert [path for path in mounted if not (ROOT / path).is_file()] == []
