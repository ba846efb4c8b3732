"""`soma bench retrieval`: what is found of real text, by likeness, by words, by both, and by BM25.

The text is this project's own: its pages, and the docstrings of its modules and functions, passage
by passage, as the memories of one tenant. PostgreSQL has them as the projection writes them, and a
replica as recall reads them: from the same records.
"""

import ast
import asyncio
import json
import math
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Message

from agents.coordinates import memory_id
from agents.memory_rows import CONTENT_PART, HEAD_PART, content_key, head_key
from agents.recall.entry import Filters
from agents.recall.fusion import depth_of, fused
from agents.recall.replica import holding_of
from agents.recall.rows import SCHEMA, Rows
from agents.settings import Settings
from agents.tables.declared import declared
from agents.tables.making import make
from ops.bench.report import RESULTS, Report
from ops.bench.retrieval_queries import QUERIES, Query
from stores import migrations
from stores.memory_keywords import MemoryKeywords, Which
from stores.names import quoted, schema_of
from stores.postgres import connected
from stores.projection_store import Move, ProjectionStore
from topics import codec

ROOT = Path(__file__).parents[2]
TENANT, TOPIC_ID = "docs", "bench"
K = 10  # recall@10
SHORTEST = 40  # characters of a passage: a heading alone answers nothing
PART = 1_000  # rows of one write
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
K1, B = 1.2, 0.75  # of BM25, as usual
WAYS = ("vector", "keywords", "hybrid", "BM25")
COLUMNS = ("by", "recall@10", "first answer in 10", "MRR")
METHOD = (
    "{passages:,} passages (paragraphs and points of the project's pages; docstrings of its "
    "modules and functions) and {queries} questions written by hand ({typed} with a name as it is "
    "typed): "
    "a passage answers where it has one of a question's texts; {answers:.1f} do so on average. "
    "recall@10: of a question's answers, or of ten where it has more, those among the first ten; "
    "MRR: 1 / rank of the first. vector: the default embedding (hashed character n-grams, "
    "{dimension} numbers) and exact search; keywords: PostgreSQL's full text as `mode=keywords` "
    "asks it; hybrid: both by reciprocal rank; BM25: computed plainly over whole lower-case words, "
    "k1 {k1}, b {b} "
    "(Robertson and Zaragoza 2009), exact lexical search. ± is the standard error over questions."
)

Ranking = Callable[[str, int], list[str]]


@dataclass
class Found:
    """One way's figures, question by question."""

    recall: list[float] = field(default_factory=list)
    reciprocal: list[float] = field(default_factory=list)


def passages(root: Path = ROOT) -> list[str]:
    """The corpus, each text once, in a fixed order."""
    texts: list[str] = []
    for path in sorted(root.rglob("*.md")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and path != RESULTS:  # which say of this benchmark what it asks
            texts += _of_page(path.read_text(encoding="utf-8"))
    for folder in ("agents", "stores", "topics"):
        for path in sorted((root / folder).rglob("*.py")):
            texts += _of_module(path.read_text(encoding="utf-8"))
    return list(dict.fromkeys(text for text in texts if len(text) >= SHORTEST))


def _of_page(text: str) -> Iterator[str]:
    """Paragraphs, points and rows of tables, each with its heading before it."""
    heading = ""
    for block in re.split(r"\n\s*\n|\n(?=\s*[-|#] ?)", text):
        if block.lstrip().startswith("#"):
            heading = block.strip("# \n")
        elif len(block.strip()) >= SHORTEST:
            yield f"{heading}: {' '.join(block.split())}"


def _of_module(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and (said := ast.get_docstring(node)):
            yield " ".join(said.split())


def run(settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """The figures, as JSON data. `StoreDown`."""
    own = settings.model_copy(update={"namespace": f"bench-{uuid.uuid4().hex[:8]}"})
    texts = passages()
    say(f"{len(texts):,} passages, {len(QUERIES)} questions")
    replica = Rows(holding_of(own))
    with asyncio.Runner() as runner:
        runner.run(_schema(own, up=True))
        try:
            _write(own, replica, texts)
            store = runner.run(MemoryKeywords.open(own.postgres(), own.namespace, "soma bench"))
            try:
                ways = _ways(replica, store, runner, texts)
                measured = {name: _measured(way, texts) for name, way in ways.items()}
            finally:
                runner.run(store.close())
        finally:
            runner.run(_schema(own, up=False))
    answers = [len(_answers(query, texts)) for query in QUERIES]
    return {
        "passages": len(texts), "queries": len(QUERIES), "answers": float(np.mean(answers)),
        "dimension": own.recall.dimension,
        "ways": {name: vars(found) for name, found in measured.items()},
    }  # fmt: skip


async def _schema(settings: Settings, up: bool) -> None:
    schema = schema_of(settings.namespace)
    async with connected(settings.postgres(), "soma bench") as connection:
        if up:
            await migrations.up(connection, schema, migrations.load())
        else:
            await connection.execute(f"DROP SCHEMA {quoted(schema)} CASCADE")


def _write(settings: Settings, replica: Rows, texts: Sequence[str]) -> None:
    """Each passage as a memory's content and head, into both."""
    messages: list[Message] = []
    for number, text in enumerate(texts):
        id_ = memory_id(TENANT, str(number))
        for key, part, more in (
            (content_key(TENANT, "", id_), CONTENT_PART, {"payload": json.dumps({"text": text})}),
            (head_key(TENANT, "", id_), HEAD_PART, {"content_version": 1}),
        ):
            record = codec.from_json(SCHEMA, {
                "tenant": TENANT, "id": id_, "part": part, "version": 1, "offset": number,
                "coordinate": str(number), **more,
            })  # fmt: skip
            messages.append(Message(
                topic="memory.latest", partition=0, offset=len(messages), key=key.encode(),
                value=codec.encode(SCHEMA, record), timestamp=(1, 0),
            ))  # fmt: skip
    replica.take(messages)
    what = next(one for one in declared(settings) if one.name == "memories")
    store = ProjectionStore(settings.postgres(), schema_of(settings.namespace), what.target)
    try:
        at = store.positions([0], TOPIC_ID)[0]
        for first in range(0, len(messages), PART):
            some = messages[first : first + PART]
            move = Move(at, TOPIC_ID, first + len(some))
            made = make(settings, what, some, "memory.latest", TOPIC_ID)
            store.write(made.rows, {0: move})
            at = move.after()
    finally:
        store.close()


def _ways(
    replica: Rows, store: MemoryKeywords, runner: asyncio.Runner, texts: Sequence[str]
) -> dict[str, Ranking]:
    """Each gives the coordinates of the k best."""
    memories = replica.of(TENANT)
    at = {one.id: one.coordinate for one in memories.entries()}

    def vector(text: str, k: int) -> list[str]:
        found = memories.by_text(text, k, Filters(), time.time_ns() // 1000)
        return [one.entry.coordinate for one in found]

    def keywords(text: str, k: int) -> list[str]:
        return [at[one.id] for one in runner.run(store.matches(TENANT, text, k, Which()))]

    def hybrid(text: str, k: int) -> list[str]:
        deep = depth_of(k, len(texts))
        return [one for one, _ in fused([vector(text, deep), keywords(text, deep)])[:k]]

    return dict(zip(WAYS, (vector, keywords, hybrid, Bm25(texts).best), strict=True))


def _measured(way: Ranking, texts: Sequence[str]) -> Found:
    found = Found()
    for query in QUERIES:
        wanted = _answers(query, texts)
        ranking = way(query.text, K)
        right = [rank for rank, one in enumerate(ranking, 1) if one in wanted]
        found.recall.append(len(right) / min(K, len(wanted)))
        found.reciprocal.append(1 / right[0] if right else 0.0)
    return found


def _answers(query: Query, texts: Sequence[str]) -> set[str]:
    """Coordinates of the passages that answer. ValueError: there is none any more."""
    found = {str(k) for k, text in enumerate(texts) if any(one in text for one in query.answers)}
    if not found:
        raise ValueError(f"no passage answers {query.text!r}: its texts were changed")
    return found


class Bm25:
    """Exact lexical search (Robertson and Zaragoza 2009), computed plainly."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(_words(text)) for text in texts]
        self._lengths = [sum(one.values()) for one in self._counts]
        self._mean = sum(self._lengths) / len(self._lengths)
        self._having = Counter(word for one in self._counts for word in one)

    def best(self, text: str, k: int) -> list[str]:
        """The places of the k best, as texts."""
        scored = [(self._score(number, set(_words(text))), number)
                  for number in range(len(self._counts))]  # fmt: skip
        ranked = sorted((-score, number) for score, number in scored if score > 0.0)
        return [str(number) for _, number in ranked[:k]]

    def _score(self, number: int, words: set[str]) -> float:
        counts, n = self._counts[number], len(self._counts)
        norm = K1 * (1 - B + B * self._lengths[number] / self._mean)
        return sum(
            math.log(1 + (n - self._having[word] + 0.5) / (self._having[word] + 0.5))
            * counts[word] * (K1 + 1) / (counts[word] + norm)
            for word in words if word in counts
        )  # fmt: skip


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def report(found: dict[str, Any]) -> Report:
    """The table, and what was measured."""
    rows = []
    for name, one in found["ways"].items():
        recall, first = np.array(one["recall"]), np.array(one["reciprocal"])
        error = recall.std(ddof=1) / math.sqrt(recall.size)
        rows.append((
            name, f"{recall.mean():.3f} ± {error:.3f}", f"{int((first > 0).sum())} of {first.size}",
            f"{first.mean():.3f}",
        ))  # fmt: skip
    typed = sum(bool(re.search(r"[_.]", query.text)) for query in QUERIES)
    shown = {name: found[name] for name in ("passages", "queries", "answers", "dimension")}
    return Report("retrieval", COLUMNS, rows, METHOD.format(**shown, typed=typed, k1=K1, b=B))
