"""What a user can mend: a bad setting, told in one line before anything is spent."""


class ConfigError(Exception):
    """A bad setting; the message names the field, its value and what is allowed, in one line.

    Not a ValueError: a handler of what a computation cannot do must not swallow it, and a search
    must not keep it as the result of a trial.
    """
