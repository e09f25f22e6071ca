"""What a user can mend is found behind whatever it is wrapped into."""

import errno
from typing import NoReturn

import pytest
from ray.exceptions import RayTaskError
from ray.train import TrainingFailedError
from ray.train.v2.api.exceptions import WorkerGroupError

from cluster.errors import ConfigError, built, one_line, printed, refusal, refusals_of_workers

BAD = ConfigError("lr: -1; allowed: more than 0")


def of_a_worker(cause: Exception) -> Exception:
    """As `ray.get` raises it: of the cause's class, with the worker's stack trace as its text."""
    return RayTaskError("task", "Traceback (most recent call last): …", cause).as_instanceof_cause()


def raised_from(cause: Exception) -> Exception:
    try:
        raise ValueError("in between") from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        BAD,
        of_a_worker(BAD),
        of_a_worker(of_a_worker(BAD)),
        raised_from(BAD),
        raised_from(of_a_worker(BAD)),
        WorkerGroupError("a worker failed", {1: of_a_worker(BAD)}),
        raised_from(WorkerGroupError("a worker failed", {0: raised_from(BAD)})),
        of_a_worker(ConfigError(f"{BAD}\nFailed to apply UDF transform after 1/1 attempts")),
    ],
)
def test_it_is_found_with_its_own_words(error: Exception) -> None:
    refused = refusal(error)
    assert type(refused) is ConfigError
    assert str(refused) == "lr: -1; allowed: more than 0"
    with pytest.raises(ConfigError) as raised, refusals_of_workers():
        raise error
    assert str(raised.value) == str(BAD)


def test_a_full_disk_is_one_line() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/data/x.parquet")
    assert issubclass(WorkerGroupError, TrainingFailedError)
    for error in (full, of_a_worker(full)):
        refused = refusal(error)
        assert str(refused).startswith("disk: No space left on device: /data/x.parquet; allowed: ")


@pytest.mark.parametrize(
    "error", [ValueError("x"), of_a_worker(ValueError("x")), OSError(errno.EIO, "Input/output")]
)
def test_other_errors_are_none(error: Exception) -> None:
    assert refusal(error) is None
    with pytest.raises(type(error)) as raised, refusals_of_workers():
        raise error
    assert raised.value is error


def test_a_circle_of_causes_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert refusal(one) is None


def test_what_cannot_be_built_says_so_when_it_is_called() -> None:
    def refuse() -> NoReturn:
        raise raised_from(BAD)

    def fail() -> NoReturn:
        raise ValueError("a fault")

    with pytest.raises(ConfigError, match=r"^lr: -1; allowed: more than 0$"):
        built(refuse)({})
    with pytest.raises(ValueError, match="a fault"):
        built(fail)
    assert built(lambda: str)(3) == "3"


def test_a_message_of_several_lines_is_one() -> None:
    assert one_line(ValueError("one\n  two")) == "one two"


def test_of_a_long_message_the_middle_is_left_out() -> None:
    message = printed(f"class name {'x' * 100_000!r} has 9 tokens; allowed 1 to 75")
    assert message.startswith("class name 'xxx")
    assert message.endswith("xxx' has 9 tokens; allowed 1 to 75")
    assert len(message) < 1100
    assert printed("y" * 1000) == "y" * 1000


def test_what_a_terminal_would_act_on_is_printed_as_an_escape() -> None:
    text = "class 'a\x1b[2J\u202eb\ud800'\r\n\x85is é, 日本 and 🦊"
    assert printed(text) == "class 'a\\x1b[2J\\u202eb\\ud800' is é, 日本 and 🦊"
