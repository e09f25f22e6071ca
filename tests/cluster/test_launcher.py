"""ray_cluster.yaml against Ray's own validator, and against what this project says elsewhere."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.errors import ConfigError
from cluster.launcher import FILL_IN, unfilled
from cluster.pool import GROUP

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


def test_the_head_says_which_groups_there_are(launcher: dict[str, Any]) -> None:
    """All that have GPUs; by that a job is refused that wants a GPU of no group."""
    groups = launcher["available_node_types"]
    with_gpus = {name for name, group in groups.items() if "GPU" in group["resources"]}
    offers = groups["head"]["resources"]
    assert {name.removeprefix(GROUP) for name in offers if name.startswith(GROUP)} == with_gpus


def test_nodes_run_the_ray_of_the_locks(launcher: dict[str, Any], project: dict[str, Any]) -> None:
    """The same in the image, in the lock, and in the environment of vLLM's engines."""
    version = launcher["docker"]["image"].split(":")[1].split("-")[0]
    requirements = [Requirement(line) for line in project["dependencies"]]
    assert [r for r in requirements if r.name == "ray" and r.specifier.contains(version)]
    for lock in ("requirements.lock", "requirements-vllm.lock"):
        assert f"ray=={version}" in (ROOT / lock).read_text().splitlines()


def test_nodes_install_from_the_locks(launcher: dict[str, Any], project: dict[str, Any]) -> None:
    """What a lock cannot hold has its version in the command, within the project's bounds."""
    mounts = launcher["file_mounts"]
    installs = [command for command in commands(launcher) if "pip install" in command]
    assert len(installs) == 5
    for command in installs:
        (lock,) = re.findall(r"--(?:constraint|requirement) (\S+)", command)
        engines = command.startswith("/home/ray/vllm/")
        assert mounts[lock] == ("requirements-vllm.lock" if engines else "requirements.lock")
        assert engines or f"{Path(lock).parent}[" in command
    pins = {p[0]: p[1] for c in installs for p in re.findall(r" ([a-z-]+)==(\S+)", c)}
    bounds = {r.name: r for r in map(Requirement, project["optional-dependencies"]["tensorrt"])}
    locked = (ROOT / "requirements.lock").read_text()
    assert set(pins) == {name for name in bounds if f"\n{name}==" not in locked}
    assert [name for name, version in pins.items() if version not in bounds[name].specifier] == []


def node_configs(launcher: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: kind["node_config"] for name, kind in launcher["available_node_types"].items()}


def test_credentials_of_an_instance_need_a_session(launcher: dict[str, Any]) -> None:
    """IMDSv2, one hop: not out of a container with a network of its own."""
    for node in node_configs(launcher).values():
        assert node["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}


def test_disks_are_encrypted(launcher: dict[str, Any]) -> None:
    for node in node_configs(launcher).values():
        assert node["BlockDeviceMappings"]
        assert all(disk["Ebs"]["Encrypted"] is True for disk in node["BlockDeviceMappings"])


def test_no_node_has_a_public_address_and_all_are_in_the_security_group(
    launcher: dict[str, Any],
) -> None:
    """Ray takes subnet and group from the interfaces, and refuses them beside those."""
    assert launcher["provider"]["use_internal_ips"] is True
    for node in node_configs(launcher).values():
        assert not node.keys() & {"SubnetId", "SubnetIds", "SecurityGroupIds"}
        (interface,) = node["NetworkInterfaces"]
        assert interface["AssociatePublicIpAddress"] is False
        assert interface["SubnetId"]
        assert len(interface["Groups"]) == 1


def test_nodes_have_roles_and_only_the_head_that_which_starts_nodes(
    launcher: dict[str, Any],
) -> None:
    """Without a role in the file, Ray gives the head one with all of EC2 and S3, workers none."""
    roles = {
        name: node["IamInstanceProfile"]["Name"] for name, node in node_configs(launcher).items()
    }
    assert roles.pop("head") == "imagine-beyond-head"
    assert set(roles.values()) == {"imagine-beyond-worker"}


def test_images_are_named_by_what_they_hold(launcher: dict[str, Any]) -> None:
    assert re.fullmatch(r"\S+@sha256:(FILL-IN|[0-9a-f]{64})", launcher["docker"]["image"])
    for node in node_configs(launcher).values():
        assert re.fullmatch(r"ami-(FILL-IN|[0-9a-f]+)", node["ImageId"])


def test_what_only_the_user_knows_is_named(tmp_path: Path) -> None:
    """Each value once, though all groups have it."""
    node = "available_node_types.head.node_config"
    places = unfilled(str(ROOT / "ray_cluster.yaml"))
    assert set(places) == {
        "docker.image",
        f"{node}.ImageId",
        f"{node}.NetworkInterfaces.0.SubnetId",
        f"{node}.NetworkInterfaces.0.Groups.0",
    }
    text = (ROOT / "ray_cluster.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace(FILL_IN, "0123456789abcdef0"))
    assert unfilled(str(tmp_path / "own.yaml")) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "cannot be read (while parsing"),
        (b"\xff\xfe\x00", "cannot be read ("),
        (b"[" * 5000, "cannot be read ("),
        (b"- head", "holds list"),
    ],
    ids=["half", "bytes", "deep", "list"],
)
def test_a_file_that_is_no_launcher_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        unfilled(str(tmp_path / "own.yaml"))
    assert "\n" not in str(refused.value)


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
