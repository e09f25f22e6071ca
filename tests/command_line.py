"""Jobs as their command line runs them, in this process: `python -m` without the seconds that a
process of its own takes to import what is here already."""

import contextlib
import io
import runpy
import subprocess
import sys
import warnings

import pytest


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGUMENTS…`: its exit code and what it printed.

    What it raises is raised here: in a process of its own it would be a stack trace.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, "argv", [module, *arguments])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess([module, *arguments], code, out.getvalue(), err.getvalue())
