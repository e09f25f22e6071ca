"""What other programs in this process write to stderr, without some of their lines."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stderr_without(words: str) -> Iterator[int]:
    """Holds back what is written to the file descriptor of stderr meanwhile.

    Afterwards all lines without these words follow; of a block that raises, none, for the error
    says it. words: "" keeps all lines of one that does not raise. Yields a descriptor of stderr
    itself.
    """
    sys.stderr.flush()
    real = os.dup(2)
    try:
        with tempfile.TemporaryFile() as heard:
            os.dup2(heard.fileno(), 2)
            try:
                yield real
            finally:
                sys.stderr.flush()
                os.dup2(real, 2)
            heard.seek(0)
            for line in heard:
                if not words or words.encode() not in line:
                    os.write(2, line)
    finally:
        os.close(real)
