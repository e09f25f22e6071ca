"""Captions class by class: asked for in passes, until each is accepted or asked for too often.

One pass is a pipeline of Ray Data: plan, writer, acceptance. A class's captions are decided on
together (near-duplicates), by one actor that waits until the class is complete and keeps one piece
of it per asking. These pieces are all the state: what a pass has left out that was killed or lost a
node, the next one asks for, and the same pieces come out.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import ray
from ray.data import Dataset

from actors.embedded.sprite_factors import FACTORS
from actors.synthesis.captions.acceptance import Row, decide, kind_of
from actors.synthesis.captions.rows import CLASS_COLUMNS, class_key, class_table
from actors.synthesis.captions.writer import WriterConfig
from actors.synthesis.factors.drawing import MODE_SHARES
from actors.synthesis.language_models.stages import Stage
from cluster.artifacts import WORK, Artifact, Draft, draft
from cluster.connect import require_ray
from cluster.errors import refusals_of_workers
from cluster.nodes import watched_nodes
from cluster.pieces import Pieces
from cluster.progress import show_progress
from cluster.row_pipeline import read_rows
from cluster.rows import row_id

REFUSED, SETTLED = "refused", "rows"
"""Tables of a piece: texts that one asking refused; all captions of the class that are accepted or
given up so far."""
PLAN = f"{WORK}/plan"
"""What a pass asks for."""
ROWS_PER_TASK = 256
PASSES_WITHOUT_PROGRESS = 3
_NUMBERS = {"label", "index", "counter", "asked"}


def _schema(*columns: str) -> pa.Schema:
    return pa.schema([(c, pa.int64() if c in _NUMBERS else pa.string()) for c in columns])


PLAN_SCHEMA = _schema("caption_id", "dataset", "class_name", "index", "counter", "asked")
SCHEMA = _schema(
    "caption_id", *CLASS_COLUMNS, "index", "counter", "mode", *FACTORS, "caption", "reason"
)


@dataclass(frozen=True)
class CaptionPlan:
    """All captions of an artifact that is being made, or was made before."""

    draft: Draft
    factors: Artifact
    writer: WriterConfig

    @property
    def pieces(self) -> Pieces:
        """What is decided: a piece per class and asking."""
        return Pieces(self.draft, {REFUSED: SCHEMA, SETTLED: SCHEMA})

    def stage(self) -> Stage:
        """The writer as a step of Ray Data."""
        return self.writer.engine.stage(self.factors.uri, self.writer.pool)

    def classes(self) -> list[tuple[str, str]]:
        """(dataset, class name) of all classes, in the order of the table of factors."""
        table = self.factors.read_table("classes", ["dataset", "class_name"]).to_pylist()
        return [(row["dataset"], row["class_name"]) for row in table]

    def caption_id(self, dataset: str, class_name: str, index: int) -> str:
        return row_id(dataset, class_name, index, 0, self.writer.recipe)


def caption_plan(storage: str, factors: Artifact, writer: WriterConfig, config: Any) -> CaptionPlan:
    """The captions that these settings stand for, done or not.

    config: of the job, for the manifest.
    """
    engine = writer.engine
    content = {"writer": writer, "engine": engine, "recipe": writer.recipe, "modes": MODE_SHARES}
    inputs = {"factors": factors}
    out = draft(storage, "captions", engine.name, config=config, inputs=inputs, content=content)
    return CaptionPlan(out, factors, writer)


class Refusals:
    """What the askings of a plan have refused; each piece is read once."""

    def __init__(self, plan: CaptionPlan) -> None:
        self.plan = plan
        self._counts: dict[str, Counter[tuple[str, str, str]]] = {}
        """By piece: by dataset, class name and kind of reason."""
        self._last: dict[str, tuple[int, list[int]]] = {}
        """By class the last asking that refused one, and the indices of all that it refused."""

    def read(self, keys: set[str]) -> None:
        """Of these pieces those that are new."""
        columns = ["dataset", "class_name", "index", "counter", "reason"]
        new = sorted(keys - self._counts.keys())
        self._counts |= {key: Counter() for key in new}
        for batch in self.plan.pieces.batches(REFUSED, new):
            for row in batch.select(columns).to_pylist():
                of_class = class_key(row["dataset"], row["class_name"])
                counts = self._counts[_key(of_class, row["counter"])]
                counts[row["dataset"], row["class_name"], kind_of(row["reason"])] += 1
                last, _ = self._last.get(of_class, (-1, []))
                if last < row["counter"]:
                    self._last[of_class] = row["counter"], []
                self._last[of_class][1].append(row["index"])

    def wanted(self, of_class: str, counter: int) -> list[int]:
        """The indices of a class that are to be asked for again, after so many askings."""
        last, indices = self._last.get(of_class, (-1, []))
        return indices if last == counter - 1 and counter < self.plan.writer.attempts else []

    def table(self) -> pa.Table:
        """Refused texts per dataset, class and kind of reason: `count`, most first."""
        names = ["dataset", "class_name", "reason"]
        schema = pa.schema([*((name, pa.string()) for name in names), ("count", pa.int64())])
        counts: Counter[tuple[str, str, str]] = Counter()
        for _, of_piece in sorted(self._counts.items()):  # equal counts in one order, whoever reads
            counts.update(of_piece)
        rows = [dict(zip(schema.names, (*key, n), strict=True)) for key, n in counts.most_common()]
        return pa.Table.from_pylist(rows, schema)


def write_captions(plan: CaptionPlan) -> Artifact:
    """Asks for every caption that is not there yet, class by class, and publishes them.

    A caption that is refused at every asking stays as a row of the table `rows` (SCHEMA) with its
    reason. Raises RuntimeError if passes end without getting on.
    """
    total, refusals = len(plan.classes()) * plan.writer.per_class, Refusals(plan)
    wanted = plan_pass(plan, refusals)
    require_ray()
    with (
        show_progress("captions", total, "captions", done=total - wanted) as progress,
        watched_nodes("captions", plan.writer.pool.resources()) as nodes,
    ):
        idle, askings = 0, -1
        while wanted:
            before, askings = askings, len(plan.pieces.complete())
            idle = idle + 1 if askings == before else 0
            if idle == PASSES_WITHOUT_PROGRESS:
                raise RuntimeError(f"{wanted} captions are wanted, and {idle} passes made none")
            with nodes.outlived(), refusals_of_workers():
                for settled in caption_pass(plan).iter_batches(batch_size=None):
                    progress.advance(len(settled["caption_id"]))
            wanted = plan_pass(plan, refusals)
            progress.advance(total - wanted - progress.done)
    return _published(plan, refusals)


def plan_pass(plan: CaptionPlan, refusals: Refusals | None = None) -> int:
    """Writes down what is wanted next of every class; returns how many captions that are.

    refusals: what earlier passes of this process have read of them.
    """
    keys = plan.pieces.complete()
    counters = Counter(_class_of(key) for key in keys)
    (refusals := refusals or Refusals(plan)).read(keys)
    total = 0
    with (
        plan.draft.open_file(f"{PLAN}/part-0.parquet") as stream,
        pq.ParquetWriter(stream, PLAN_SCHEMA) as file,
    ):
        for dataset, class_name in plan.classes():
            counter = counters[key := class_key(dataset, class_name)]
            indices = refusals.wanted(key, counter) if counter else range(plan.writer.per_class)
            if not indices:
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


def caption_pass(plan: CaptionPlan) -> Dataset:
    """One pass, still to be run: rows of SCHEMA that are settled, as their classes are complete."""
    rows = read_rows(plan.draft, PLAN).repartition(target_num_rows_per_block=ROWS_PER_TASK)
    return plan.stage()(rows).map_batches(
        Acceptance,
        fn_constructor_args=(plan.pieces, plan.factors.uri, plan.writer.attempts),
        compute=ray.data.ActorPoolStrategy(size=1),  # whoever holds a class's texts holds them all
        num_cpus=0,
        batch_format="pyarrow",
        batch_size=None,
    )


class Acceptance:
    """Decides on the texts of a class, as soon as all that were asked for are there.

    It keeps the piece, and hands on the rows that are settled by it: accepted, or refused for the
    last time.
    """

    def __init__(self, pieces: Pieces, factors: str, attempts: int) -> None:
        self.pieces, self.classes, self.attempts = pieces, class_table(factors), attempts
        self.waiting: dict[str, dict[int, Row]] = {}

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for row in batch.to_pylist():
            key = class_key(row["dataset"], row["class_name"])
            waiting = self.waiting.setdefault(key, {})
            row["caption"] = row["text"]
            waiting[row["index"]] = row  # by index: Ray may deliver a row twice
            if len(waiting) == row["asked"]:
                yield self._decided(key, list(self.waiting.pop(key).values()))

    def _decided(self, key: str, rows: list[Row]) -> pa.Table:
        counter = rows[0]["counter"]
        known = self.classes[key]
        names = [known["class_name"], *(known.get("synonyms") or [])]
        earlier = self._earlier(key, counter)
        accepted = {row["index"]: row["caption"] for row in earlier}
        decided = decide(rows, accepted, names)
        refused = [row for row in decided if row["reason"]]
        last = counter == self.attempts - 1
        settled = [row for row in decided if last or not row["reason"]]
        so_far = sorted([*earlier, *settled], key=lambda row: row["index"])
        tables = {
            REFUSED: pa.Table.from_pylist(refused, SCHEMA),
            SETTLED: pa.Table.from_pylist(so_far, SCHEMA),
        }
        self.pieces.write(_key(key, counter), tables)
        return pa.Table.from_pylist(settled, SCHEMA)

    def _earlier(self, key: str, counter: int) -> list[Row]:
        """Captions of the class that earlier askings have settled."""
        return self.pieces.read(SETTLED, _key(key, counter - 1)).to_pylist() if counter else []


def _published(plan: CaptionPlan, refusals: Refusals) -> Artifact:
    """Gathers the table `rows` and publishes, with the counts of refused texts."""
    keys = sorted(plan.pieces.complete())
    table = refusals.table()
    plan.draft.write_table("refusals", table)
    kinds: Counter[str] = Counter()
    for row in table.to_pylist():
        kinds[row["reason"]] += row["count"]
    last = {_class_of(key): key for key in keys}  # what it has settled is all of its class
    counts = Pieces(plan.draft, {SETTLED: SCHEMA}).gather(last.values())
    given_up = plan.draft.open_table(SETTLED).count_rows(filter=ds.field("reason") != "")
    rows = {"rows": counts[SETTLED], "refused": given_up}
    return plan.draft.publish(rows, extra={"refusals": dict(kinds)})


def _key(of_class: str, counter: int) -> str:
    return f"{of_class}-{counter:03d}"


def _class_of(key: str) -> str:
    return key.partition("-")[0]
