"""python -m tests.trusted_run losses | demo runs/demo | check runs/demo

Goldens of runs of our own, in tests/golden/trusted: `losses` and `demo` write them, `check`
compares a finished demo with its golden. On the kind of machine and with the versions that a golden
was written with, all digits must be the same; elsewhere a stated tolerance holds.
"""

import dataclasses
import json
import math
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actors.pictures.base_set import BaseSet
from actors.pretraining.loop import Calls, pretrain
from actors.pretraining.shares import Worker
from actors.pretraining.state import Metrics, TrainState
from cluster.artifacts import open_artifact
from jobs.report.tables.results import closing_table
from models.backbones import TINY, load_clip
from models.views import ViewConfig
from tests.test_recipes import loaded

GOLDENS = Path(__file__).parent / "golden" / "trusted"
LIBRARIES = ("numpy", "open_clip_torch", "optuna", "pillow", "ray", "resvg-py", "scikit-learn",
             "scipy", "torch", "torchvision")  # fmt: skip
ISA = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")

STEPS, CAPTIONS, BATCH = 100, 20, 4
LOSS_TOLERANCE = 1e-3
"""Relative, between the losses of two kinds of machine: ten times what AVX2 in place of AVX-512, or
another library's products, made of them."""
POINTS = 8.0
"""Percentage points, between a mean accuracy of the demo on two kinds of machine."""


def losses() -> list[float]:
    """Of 100 steps of the tiny pretraining: one process, one thread, float32, seed 0.

    With masked patches and the released views, which the recipe leaves out.
    """
    recipe = loaded("tiny.yaml").pretrainer
    weights = dataclasses.replace(recipe.model.weights, ibot=0.3)
    cfg = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, weights=weights),
        views=ViewConfig(blur_sigma=(0.1, 0.6)),
        masked_share=0.5,
        epochs=STEPS * BATCH // CAPTIONS,
        batch_size=BATCH,
        precision="fp32",
        log_every=1,
        seed=0,
    )
    worker = Worker(rank=0, count=1, device=torch.device("cpu"))
    rows: list[Metrics] = []

    def tell(state: TrainState, row: Metrics) -> None:
        rows.extend([row] if row else [])

    calls = Calls(start=lambda state: [], save=lambda *_: None, save_every=STEPS, tell=tell)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pretrain(cfg, load_clip(TINY), base_set(), worker, calls)
    finally:
        torch.set_num_threads(threads)
    return [row["loss"] for row in rows]


def base_set() -> BaseSet:
    """Two pictures of each caption, coarse noise of 8 x 8 squares, drawn by integers alone."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (CAPTIONS, 2, 3, 8, 8), dtype=np.uint8)
    coarse[:, 1, :, 2:6] = coarse[:, 0, :, 2:6]  # what the two have in common
    pixels = coarse.reshape(-1, 3, 8, 8).repeat(8, axis=2).repeat(8, axis=3)
    captions = np.array([f"caption {number:02}" for number in range(CAPTIONS)], dtype=bytes)
    starts = np.arange(0, 2 * CAPTIONS + 1, 2)
    return BaseSet(captions, starts, 64, lambda numbers: [pixels[number] for number in numbers])


def demo_table(storage: Path) -> list[str]:
    """The closing table of a finished demo, in lines; ValueError if it is not finished."""
    results = [path.parent for path in storage.glob("results/*/manifest.json")]
    if len(results) != 1:
        raise ValueError(f"{storage} has {len(results)} results; allowed: one finished demo")
    return closing_table(open_artifact(str(results[0]), "results")).splitlines()


def origin() -> dict[str, Any]:
    """Where a golden was made: all that its digits depend on, besides the code."""
    return {"machine": machine(), "versions": {name: version(name) for name in LIBRARIES}}


def machine() -> dict[str, str]:
    """The kind of processor, and what torch makes of it."""
    text = Path("/proc/cpuinfo").read_text()
    facts = dict(re.findall(r"^([^\t:]+)\s*: (.*)$", text.split("\n\n")[0], re.MULTILINE))
    flags = facts.get("flags", "").split()
    return {
        "architecture": platform.machine(),
        "cpu": " ".join(f"{facts.get(key)}" for key in ("vendor_id", "cpu family", "model")),
        "flags": " ".join(flag for flag in ISA if flag in flags),
        "torch": torch.backends.cpu.get_cpu_capability(),
    }


def other_origin(golden: dict[str, Any]) -> str | None:
    """Why digits may differ from the golden's; None where they may not."""
    here = origin()
    differences = [
        f"{name} {here[part].get(name)}, not {value}"
        for part in ("machine", "versions")
        for name, value in golden[part].items()
        if here[part].get(name) != value
    ]
    return "; ".join(differences) or None


def different_losses(golden: dict[str, Any], found: list[float]) -> list[str]:
    """The steps whose loss is another than the golden's, in words."""
    exact = other_origin(golden) is None
    pairs = enumerate(zip(golden["losses"], found, strict=True))
    return [
        f"step {step}: {value!r}, not {expected!r}"
        for step, (expected, value) in pairs
        if value != expected
        and (exact or not math.isclose(value, expected, rel_tol=LOSS_TOLERANCE))
    ]


def different_lines(golden: dict[str, Any], found: list[str]) -> list[str]:
    """The lines of the demo's table that are other ones than the golden's, in words."""
    if len(found) != len(golden["table"]):
        return [f"{len(found)} lines, not {len(golden['table'])}"]
    exact = other_origin(golden) is None
    pairs = zip(golden["table"], found, strict=True)
    return [
        f"{line!r}, not {expected!r}"
        for expected, line in pairs
        if line != expected and (exact or not _near(expected, line))
    ]


def _near(expected: str, line: str) -> bool:
    """Whether two lines differ in intervals, and in means by POINTS at most."""
    (words, means), (other_words, other_means) = _parted(expected), _parted(line)
    return words == other_words and all(
        abs(a - b) <= POINTS for a, b in zip(means, other_means, strict=True)
    )


def _parted(line: str) -> tuple[list[str], list[float]]:
    """The words of a line with a mark for each mean, and the means; intervals are left out."""
    words = re.sub(r" ± \d+\.\d| ▼", "", line).split()
    means = [word for word in words if re.fullmatch(r"\d+\.\d", word)]
    return ["mean" if word in means else word for word in words], [float(mean) for mean in means]


def read(name: str) -> dict[str, Any]:
    """The golden `losses` or `demo`."""
    return json.loads((GOLDENS / f"{name}.json").read_text("utf-8"))


def write(name: str, content: dict[str, Any]) -> None:
    """Makes it the golden of this name, with its origin."""
    text = json.dumps(origin() | content, indent=1, ensure_ascii=False)
    (GOLDENS / f"{name}.json").write_text(text + "\n", "utf-8")


def check(storage: Path) -> int:
    """Compares a finished demo with its golden; the exit code."""
    golden = read("demo")
    reason = other_origin(golden)
    print(f"compared to {POINTS} points, for {reason}" if reason else "compared to all digits")
    differences = different_lines(golden, demo_table(storage))
    print("\n".join(differences) or "the demo's table is the golden one")
    return int(bool(differences))


def main(arguments: list[str]) -> int:
    match arguments:
        case ["losses"]:
            write("losses", {"losses": losses()})
        case ["demo", storage]:
            write("demo", {"table": demo_table(Path(storage))})
        case ["check", storage]:
            return check(Path(storage))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
