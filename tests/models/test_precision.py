"""Which arithmetic runs, and that what is said of it is what runs."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.nn.functional import linear

from kernels import backend
from models.precision import TrainPrecision, autocast, bf16_unit, computing_on, has_bf16

NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_what_is_said_of_the_cpu_is_what_a_product_runs_in(precision: TrainPrecision) -> None:
    with autocast(torch.device("cpu"), precision):
        dtype = linear(torch.ones(2, 3), torch.ones(4, 3)).dtype
    unit = bf16_unit() or "no bf16 unit"
    assert computing_on("cpu", [precision]) == (
        f"arithmetic: {NAMES[dtype]} on cpu ({unit}); kernels: torch (no triton on cpu); "
        "attention: torch"
    )


def test_auto_is_bfloat16_where_linux_names_a_unit_for_it() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert has_bf16("cpu") == bool({"amx_tile", "avx512_bf16"} & set(flags))


def test_several_precisions_are_all_named_once() -> None:
    line = computing_on("cpu", ["fp32", "bf16", "fp32"])
    assert line.startswith("arithmetic: bf16 and fp32 on cpu (")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_process_without_a_gpu_does_not_guess() -> None:
    assert computing_on("cuda", ["auto"]) == (
        "arithmetic: not known, torch sees no GPU in this process"
    )


def test_an_xformers_that_does_not_load_is_a_warning_that_names_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers" / "__init__.py").write_text("")
    (tmp_path / "xformers" / "ops.py").write_text("raise ImportError('built for CUDA 11')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "xformers"]:
        monkeypatch.delitem(sys.modules, name)
    _forget()
    try:
        with pytest.warns(UserWarning, match=r"does not work \(ImportError: built for CUDA 11\)"):
            assert not backend.xformers_works()
        with warnings.catch_warnings():  # once
            warnings.simplefilter("error")
            assert not backend.xformers_works()
            assert "attention: torch (xformers does not work)" in backend.kernels_on("cuda")
    finally:
        sys.modules.pop("xformers", None)
        _forget()


def _forget() -> None:
    backend.xformers_works.cache_clear()
    backend._installed.cache_clear()
