"""Captions class by class: asked for in passes, until each is accepted or asked for too often.

One pass is a pipeline of Ray Data: plan, writer, acceptance. A class's captions are decided on
together (near-duplicates), by one actor that waits until the class is complete and writes one file
of it per asking. These files are all the state: what a killed pass has left out, the next one asks
for, and the same files come out.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import ray
from open_clip import SimpleTokenizer
from pyarrow.fs import FileSelector, FileSystem, FileType
from ray.data import Dataset

from actors.embedded.sprite_factors import FACTORS
from actors.synthesis.captions.acceptance import Row, decide, kind_of
from actors.synthesis.captions.prompts import first_line
from actors.synthesis.captions.rows import SAID, class_key, class_table
from actors.synthesis.captions.writer import WriterConfig
from actors.synthesis.language_models.stages import Stage
from cluster.artifacts import Artifact, Draft
from cluster.progress import show_progress
from cluster.row_pipeline import read_rows
from cluster.rows import row_id
from cluster.storage import written_whole

SETTLED, REFUSED, PLAN = "settled", "refused", "plan"
"""Folders: captions, accepted or given up; every text that was refused; what a pass asks for."""
ROWS_PER_TASK = 256
PASSES_WITHOUT_PROGRESS = 3
_NUMBERS = {"label", "index", "counter", "asked"}


def _schema(*columns: str) -> pa.Schema:
    return pa.schema([(c, pa.int64() if c in _NUMBERS else pa.string()) for c in columns])


PLAN_SCHEMA = _schema("caption_id", "dataset", "class_name", "index", "counter", "asked")
SCHEMA = _schema("caption_id", *SAID, "index", "counter", "mode", *FACTORS, "caption", "reason")


@dataclass(frozen=True)
class CaptionPlan:
    """All captions of an artifact that is being made."""

    draft: Draft
    factors: Artifact
    writer: WriterConfig

    def classes(self) -> list[tuple[str, str]]:
        """(dataset, class name) of all classes, in the order of the table of factors."""
        table = self.factors.read_table("classes", ["dataset", "class_name"]).to_pylist()
        return [(row["dataset"], row["class_name"]) for row in table]

    def caption_id(self, dataset: str, class_name: str, index: int) -> str:
        return row_id(dataset, class_name, index, 0, self.writer.recipe)


def write_captions(plan: CaptionPlan, write: Stage) -> int:
    """Writes the table `rows` (SCHEMA), class by class, asking for what is not there yet.

    Returns how many captions were refused to the last. Raises RuntimeError if passes end without
    getting on.
    """
    total = len(plan.classes()) * plan.writer.per_class
    idle, askings = 0, -1
    with show_progress("captions", total, "captions", done=_count(plan.draft, SETTLED)) as progress:
        while wanted := plan_pass(plan):
            before, askings = askings, len(_files(plan.draft, SETTLED))
            idle = idle + 1 if askings == before else 0
            if idle == PASSES_WITHOUT_PROGRESS:
                raise RuntimeError(f"{wanted} captions are wanted, and {idle} passes made none")
            for settled in caption_pass(plan, write).iter_batches(batch_size=None):
                progress.advance(len(settled["caption_id"]))
    _gather(plan)
    return _count(plan.draft, SETTLED, ds.field("reason") != "")


def plan_pass(plan: CaptionPlan) -> int:
    """Writes down what is wanted next of every class; returns how many captions that are."""
    fs, folder = plan.draft.filesystem()
    fs.create_dir(f"{folder}/{PLAN}", recursive=True)
    over = Counter(_class_of(path) for path in _files(plan.draft, SETTLED))
    total = 0
    with (
        written_whole(fs, f"{folder}/{PLAN}/part-0.parquet") as path,
        pq.ParquetWriter(path, PLAN_SCHEMA, filesystem=fs) as file,
    ):
        for dataset, class_name in plan.classes():
            key = class_key(dataset, class_name)
            counter = over[key]
            indices = list(range(plan.writer.per_class))
            if counter:
                indices = _refused(fs, _file(folder, REFUSED, key, counter - 1))
            if counter == plan.writer.attempts or not indices:
                continue
            total += len(indices)
            asked = {"dataset": dataset, "class_name": class_name, "counter": counter}
            rows = [
                {"caption_id": plan.caption_id(dataset, class_name, index), "index": index}
                | asked
                | {"asked": len(indices)}
                for index in indices
            ]
            file.write_table(pa.Table.from_pylist(rows, PLAN_SCHEMA))
    return total


def caption_pass(plan: CaptionPlan, write: Stage) -> Dataset:
    """One pass, still to be run: rows of SCHEMA, class by class as they become complete, that are
    accepted or will not be asked for again."""
    rows = read_rows(plan.draft, PLAN).repartition(target_num_rows_per_block=ROWS_PER_TASK)
    return write(rows).map_batches(
        Acceptance,
        fn_constructor_args=(plan.draft, plan.factors.uri, plan.writer.attempts),
        compute=ray.data.ActorPoolStrategy(size=1),  # whoever holds a class's texts holds them all
        num_cpus=0,
        batch_format="pyarrow",
        batch_size=None,
    )


class Acceptance:
    """Holds the texts of a class until all that were asked for are there; decides on them, writes
    the class's file, and hands its rows on."""

    def __init__(self, draft: Draft, factors: str, attempts: int) -> None:
        self.fs, self.folder = draft.filesystem()
        self.classes, self.attempts = class_table(factors), attempts
        self.tokenizer = SimpleTokenizer()
        self.waiting: dict[str, dict[int, Row]] = {}
        for name in (SETTLED, REFUSED):
            self.fs.create_dir(f"{self.folder}/{name}", recursive=True)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for row in batch.to_pylist():
            key = class_key(row["dataset"], row["class_name"])
            waiting = self.waiting.setdefault(key, {})
            row["caption"] = first_line(row["text"])
            waiting[row["index"]] = row  # by index: Ray may deliver a row twice
            if len(waiting) == row["asked"]:
                yield self._decided(key, list(self.waiting.pop(key).values()))

    def _decided(self, key: str, rows: list[Row]) -> pa.Table:
        counter = rows[0]["counter"]
        known = self.classes[key]
        names = [known["class_name"], *(known.get("synonyms") or [])]
        decided = decide(rows, self._accepted(key, counter), names, self.tokenizer)
        refused = [row for row in decided if row["reason"]]
        last = counter == self.attempts - 1
        settled = [row for row in decided if last or not row["reason"]]
        # The file of what is settled comes last: it says that this asking is over.
        for table, kept in ((REFUSED, refused), (SETTLED, settled)):
            if kept or table == SETTLED:
                with written_whole(self.fs, _file(self.folder, table, key, counter)) as path:
                    made = pa.Table.from_pylist(kept, SCHEMA)
                    pq.write_table(made, path, filesystem=self.fs)
        return pa.Table.from_pylist(settled, SCHEMA)

    def _accepted(self, key: str, counter: int) -> dict[int, str]:
        files = [_file(self.folder, SETTLED, key, earlier) for earlier in range(counter)]
        tables = (pq.read_table(f, filesystem=self.fs, columns=["index", "caption"]) for f in files)
        return {row["index"]: row["caption"] for table in tables for row in table.to_pylist()}


def count_refusals(draft: Draft) -> pa.Table:
    """Refused texts per dataset, class and kind of reason: `count`, most first."""
    columns = ["dataset", "class_name", "reason"]
    fs, _ = draft.filesystem()
    counts: Counter[tuple[str, str, str]] = Counter()
    for path in _files(draft, REFUSED):
        for row in pq.read_table(path, filesystem=fs, columns=columns).to_pylist():
            counts[row["dataset"], row["class_name"], kind_of(row["reason"])] += 1
    schema = pa.schema([*((name, pa.string()) for name in columns), ("count", pa.int64())])
    rows = [dict(zip(schema.names, (*key, n), strict=True)) for key, n in counts.most_common()]
    return pa.Table.from_pylist(rows, schema)


def _gather(plan: CaptionPlan) -> None:
    """All files of settled captions as one; a class at a time is in memory."""
    fs, folder = plan.draft.filesystem()
    fs.create_dir(f"{folder}/rows", recursive=True)
    files = _files(plan.draft, SETTLED)
    with (
        written_whole(fs, f"{folder}/rows/part-0.parquet") as path,
        pq.ParquetWriter(path, SCHEMA, filesystem=fs) as table,
    ):
        for _, of_a_class in groupby(files, key=_class_of):
            parts = [pq.read_table(path, schema=SCHEMA, filesystem=fs) for path in of_a_class]
            table.write_table(pa.concat_tables(parts).sort_by("index"))


def _class_of(path: str) -> str:
    return path.rpartition("/")[2].partition("-")[0]


def _file(folder: str, table: str, key: str, counter: int) -> str:
    return f"{folder}/{table}/{key}-{counter}.parquet"


def _files(draft: Draft, table: str) -> list[str]:
    fs, folder = draft.filesystem()
    found = fs.get_file_info(FileSelector(f"{folder}/{table}", allow_not_found=True))
    return sorted(file.path for file in found if file.path.endswith(".parquet"))


def _refused(fs: FileSystem, path: str) -> list[int]:
    """Indices of an asking's refused captions; an asking without any has no file."""
    if fs.get_file_info(path).type != FileType.File:
        return []
    return pq.read_table(path, filesystem=fs, columns=["index"])["index"].to_pylist()


def _count(draft: Draft, table: str, rows: ds.Expression | None = None) -> int:
    fs, _ = draft.filesystem()
    files = _files(draft, table)
    return (
        ds.dataset(files, SCHEMA, "parquet", filesystem=fs).count_rows(filter=rows) if files else 0
    )
