"""Questions sent to a language model in rounds: what one was refused, the next asks again."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from actors.synthesis.factors.answers import answer_schema, read_answer
from actors.synthesis.factors.questions import Question, identity
from actors.synthesis.language_models.answers import AnswerError
from actors.synthesis.language_models.endpoint import Endpoint, EndpointConfig
from cluster.artifacts import WORK, Draft
from cluster.pool import Pool
from cluster.row_pipeline import committed_rows, make_rows
from cluster.rows import row_seed

TRIES = 3
"""Answers per question and round."""
TEMPERATURE = 0.8
"""Source: ImagineFSL."""
LIST_TOKENS, EXAMPLE_TOKENS = 2048, 512
"""At most, of an answer."""


class FactorAsker:
    """Asks the questions of a batch side by side, each until its answer is good, or TRIES times.

    Reads `id` and the columns of `Question`. Adds `answer` (str: the last one as it came),
    `phrases` (str: JSON list, what was read from it), `tries` (int), `reason` (str; empty if it is
    fine).
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.endpoint, self.threads = Endpoint(config), config.concurrent

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        columns = (batch[name] for name in ("id", "kind", "class_name", "prompt"))
        with ThreadPoolExecutor(self.threads) as pool:
            answered = list(pool.map(self.ask, *columns))
        return batch | {
            name: np.array([row[name] for row in answered], dtype=object) for name in answered[0]
        }

    def ask(self, row_id: str, kind: str, class_name: str, prompt: str) -> dict[str, Any]:
        """What is added to one row."""
        row: dict[str, Any] = {"answer": "", "phrases": "[]", "tries": 0, "reason": ""}
        while row["tries"] < TRIES:
            seed = row_seed(f"{row_id} {row['tries']}")
            row |= {"tries": row["tries"] + 1, "answer": ""}
            try:
                row["answer"] = self.endpoint.ask(
                    prompt,
                    schema=answer_schema(kind, class_name),
                    seed=seed,
                    max_tokens=EXAMPLE_TOKENS if kind == "example" else LIST_TOKENS,
                    temperature=TEMPERATURE,
                )
                phrases = read_answer(row["answer"], kind, class_name)
            except AnswerError as error:
                row["reason"] = str(error)
            else:
                return row | {"phrases": json.dumps(phrases, ensure_ascii=False), "reason": ""}
        return row


def ask_in_rounds(
    out: Draft,
    table: str,
    questions: Sequence[Question],
    config: EndpointConfig,
    *,
    again: bool,
) -> list[dict[str, Any]]:
    """The questions with what `FactorAsker` added to them: a `reason` where there is no good
    answer.

    Answers are kept in the tables {table}-0, {table}-1, … of the draft's folder WORK, one per
    round; a round asks what the earlier ones were refused. A call goes on with the round that a
    kill interrupted, else begins one; with `again` false it begins none but the first.
    """
    rows = {q["question"]: {**q, "phrases": "[]", "reason": "not asked yet"} for q in questions}
    for round_ in itertools.count():
        name = f"{WORK}/{table}-{round_}"
        refused = [q for q in questions if rows[q["question"]]["reason"]]
        finished = committed_rows(out, name) >= len(refused)
        if not refused or (round_ and not again and not finished):
            break
        if not finished:
            plan = [{**q, "id": identity(q, round_)} for q in refused]
            make_rows(
                out,
                name,
                pa.Table.from_pylist(plan),
                partial(FactorAsker, config),
                title=f"factors: {table}",
                unit="questions",
                block_rows=4 * config.concurrent,
                pool=Pool(workers=1),
            )
        answered = out.read_table(name).to_pylist()
        rows |= {row["question"]: row for row in answered if row["question"] in rows}
        if not finished:
            break
    return list(rows.values())


def reasons(rows: Iterable[dict[str, Any]], most: int = 3) -> str:
    """The most common reasons with their counts, in one line."""
    counted = Counter(row["reason"] for row in rows if row["reason"]).most_common(most)
    return "; ".join(f"{count} x {reason}" for reason, count in counted)
