"""Command lines of earlier versions end in one line that says what stands in their place."""

from pathlib import Path

import pytest

from tests.command_line import run_module

ROOT = Path(__file__).parents[2]
FORMER = sorted(path.stem for path in (ROOT / "jobs" / "former").glob("[a-z]*.py"))


def refusal(*arguments: str) -> str:
    """The one line that a job ends in."""
    run = run_module(*arguments)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    return run.stderr


@pytest.mark.parametrize("name", FORMER)
def test_a_former_job_says_what_stands_in_its_place(name: str) -> None:
    line = refusal(f"jobs.{name}", "--storage", "runs", "--factors", "x")
    assert line.startswith(f"error: jobs.{name} is now jobs.")
    new = line.split()[4].rstrip(",").removeprefix("jobs.")
    assert (ROOT / "jobs" / f"{new}.py").is_file()


def test_there_are_former_jobs() -> None:
    assert {"captions", "images", "import_images", "import_model", "export_model"} <= set(FORMER)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "--storage", "x", "--base_set", "x", "--workers", "2"), "pool.workers"),
        (("pretrain", "--storage", "x", "--base_set", "x", "--gpu", "false"), "pool.gpus"),
        (("synthesize", "--factors", "x", "--writer.pool.max_workers", "2"), "writer.pool.workers"),
        (("synthesize", "--factors", "x", "--painter.pool.max_workers", "2"), "pool.workers"),
    ],
)
def test_a_former_option_says_what_stands_in_its_place(
    arguments: tuple[str, ...], words: str
) -> None:
    job, *rest = arguments
    line = refusal(f"jobs.{job}", *rest)
    assert rest[-2].removeprefix("--").removeprefix("painter.") in line
    assert f"is now {words}" in line


def test_a_former_option_in_a_file_says_what_stands_in_its_place(tmp_path: Path) -> None:
    config = tmp_path / "synthesis.yaml"
    writer = "{vllm: {model: m, engines_max: 4}}"
    config.write_text(f"{{storage: x, factors: x, writer: {writer}}}")
    line = refusal("jobs.synthesize", "--config", str(config))
    assert "engines_max is now writer.pool.workers" in line


def test_two_engines_are_one_line() -> None:
    for engines in (
        ("--painter.sd3.size", "64", "--painter.sprites", "{}"),
        ("--writer.vllm.model", "m", "--writer.grammar", "{}"),
    ):
        line = refusal("jobs.synthesize", "--storage", "x", "--factors", "x", *engines)
        assert "given together with" in line
