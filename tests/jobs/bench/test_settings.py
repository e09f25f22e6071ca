"""A bad setting of `python -m jobs.bench` ends in one line, like that of any other job."""

import sys

import pytest

from jobs.bench.__main__ import main

BAD = {
    "no bench": ([], "subcommand"),
    "unknown bench": (["adopt"], "'adopt'"),
    "unknown key": (["discovery", "--imagez", "[3]"], "--imagez"),
    "out of range": (["pretrain", "--steps", "0"], '"steps"'),
    "not a choice": (["search", "--part", "half"], '"part"'),
    "no storage": (["search", "--part", "growth", "--storage", "/proc/nothing"], "storage:"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_one_line_and_exit_2(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, named = BAD[name]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed, line = capsys.readouterr()
    assert (ended.value.code, printed) == (2, "")
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert named in line
