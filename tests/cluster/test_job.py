"""The command line, measured on a job of its own process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.artifacts import open_artifact
from tests.command_line import run_module

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cluster.toy_job", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.ray
def test_a_job_ends_with_one_json_line_and_knows_what_is_done(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{rows: 1, optimizer: {lr: 1e-4}}")  # plain YAML reads 1e-4 as a string
    arguments = ("--config", str(recipe), "--storage", str(tmp_path / "runs"), "--rows", "3")
    first, again = run(*arguments), run(*arguments)
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert first.stdout.count("\n") == 1
    uri = json.loads(first.stdout)["artifact"]
    manifest = open_artifact(uri, "factors").manifest
    assert manifest.config["optimizer"] == {"lr": 1e-4}
    assert manifest.rows == {"rows": 3}
    assert manifest.extra["cpus"] >= 4  # a resumed Ray Data job hangs on two
    assert "toys: 3 rows in " in first.stderr
    assert f"toys: done before ({uri})" in again.stderr
    assert json.loads(again.stdout)["artifact"] == uri


BAD = {
    "unknown key": (["--storage", "x", "--epochz", "3"], "--epochz"),
    "unknown nested key": (["--storage", "x", "--optimizer.lrr", "3"], "--optimizer.lrr"),
    "wrong type": (["--storage", "x", "--rows", "many"], '"rows"'),
    "out of range": (["--storage", "x", "--optimizer.lr", "-1"], '"optimizer.lr"'),
    "missing": ([], "storage"),
    "no such recipe": (["--config", "/nothing.yaml"], "'/nothing.yaml'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_one_line_and_exit_2(name: str) -> None:
    arguments, field = BAD[name]
    refused = run(*arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert field in refused.stderr


def test_an_unknown_key_in_a_recipe_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{storage: x, rowz: 1}")
    refused = run("--config", str(recipe))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "'rowz'" in refused.stderr


@pytest.mark.ray
def test_what_the_job_refuses_is_one_line_and_exit_2(tmp_path: Path) -> None:
    refused = run("--storage", str(tmp_path), "--rows", "13")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: rows: 13 is unlucky; allowed: any other number\n"


def test_a_configuration_that_refuses_itself_is_one_line_and_exit_2(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{storage: x, rows: 12}")
    refused = run("--config", str(recipe))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: rows: 12 does not suit the rest; allowed: any other number\n"


def test_a_recipe_in_another_encoding_is_refused_by_file_and_line(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes("rows: 3\nstorage: caf\u00e9\n".encode("latin-1"))
    for arguments in (["--config", str(recipe)], [f"--config={recipe}"]):
        refused = run(*arguments)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert f"config: '{recipe}', line 2: byte 0xe9 is no UTF-8" in refused.stderr


@pytest.mark.parametrize(
    "text", ["9" * 5000, "!!int x", "!!float x", "!!timestamp x", "{1: }", "[" * 20_000]
)
def test_yaml_that_makes_no_value_is_one_line(tmp_path: Path, text: str) -> None:
    (recipe := tmp_path / "recipe.yaml").write_text(f"storage: x\nrows: {text}")
    (whole := tmp_path / "whole.yaml").write_text(text)
    for arguments in (
        ["--config", str(recipe)],
        ["--config", str(whole)],
        ["--storage", "x", f"--rows={text}"],
    ):
        refused = run_module("tests.cluster.toy_job", *arguments)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr[-500:]
        assert "Traceback" not in refused.stderr
        assert refused.stderr.startswith("error: ")
        assert refused.stderr.count("\n") == 1


def test_help_shows_the_words_under_a_field() -> None:
    assert "How many rows to make." in run("--help").stdout
