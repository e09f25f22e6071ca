"""What Ray Data has committed of a table: the keys of its rows, in one small file for each block.

A block costs the driver some 12 ms, 37 kB and 20 requests, and what reads the commits a request or
two for each of their files. So there are at most MOST_BLOCKS blocks, until they are as large as
what a kill may lose; and the files of an earlier run are put together before another one begins.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem

from cluster.files import READERS
from cluster.rows import digest
from cluster.storage import opened_whole

PENDING = ".pending.parquet"
"""End of the name of a file of keys that are not committed yet."""
MOST_BLOCKS = 4096
MOST_GROWTH = 16
"""Times that a block is larger than asked for, at most."""
MANY_FILES = 64
"""Files that are put together, at least."""


def rows_of_block(rows: int, asked: int) -> int:
    """Rows that are committed together: as asked for, or more so that MOST_BLOCKS are enough, but
    no more than MOST_GROWTH times as many."""
    return min(max(asked, -(-rows // MOST_BLOCKS)), MOST_GROWTH * asked)


def commit_files(fs: FileSystem, folder: str) -> list[str]:
    """Paths of the files of committed keys, in order; one request."""
    return [path for path in _files(fs, folder) if not path.endswith(PENDING)]


def _files(fs: FileSystem, folder: str) -> list[str]:
    infos = fs.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    return sorted(info.path for info in infos if info.path.endswith(".parquet"))


def count_rows(fs: FileSystem, paths: Sequence[str]) -> int:
    """Rows of these files; their ends are read, some side by side."""
    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(lambda path: pq.read_metadata(path, filesystem=fs).num_rows, paths))


def keys_of(fs: FileSystem, paths: Sequence[str]) -> pa.Table:
    """The keys that these files hold; one of several rows as often."""

    def read(path: str) -> pa.Table:
        return pq.read_table(path, filesystem=fs, partitioning=None)

    with ThreadPoolExecutor(READERS) as pool:
        return pa.concat_tables(pool.map(read, paths))


def all_committed(fs: FileSystem, folder: str, keys: pa.ChunkedArray) -> bool:
    """Whether there is nothing left to be made, nor to be tidied up after a kill.

    A pipeline removes what was written and not committed. What is committed is read only if it is
    enough.
    """
    paths = _files(fs, folder)
    pending = any(path.endswith(PENDING) for path in paths)
    if pending or not paths or count_rows(fs, paths) < len(keys):
        return False
    return bool(
        pc.all(
            pc.is_in(keys, keys_of(fs, paths).column(0).cast(keys.type).combine_chunks())
        ).as_py()
    )


def put_together(fs: FileSystem, folder: str) -> None:
    """Makes one file of many; of a kill in between some keys are in two files, which harms none."""
    paths = commit_files(fs, folder)
    if len(paths) < MANY_FILES:
        return
    with opened_whole(fs, f"{folder}/{digest(*paths, size=8).hex()}.parquet") as stream:
        pq.write_table(keys_of(fs, paths), stream)
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(fs.delete_file, paths))
