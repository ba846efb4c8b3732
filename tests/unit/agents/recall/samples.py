"""Rows of memory.latest as the processor writes them, and memories made of them."""

from typing import Any

import numpy as np

from agents.memory_rows import CONTENT_PART, HEAD_PART, content_key, head_key
from agents.recall.memories import Holding
from agents.recall.rows import SCHEMA, Rows
from agents.recall.shelf import Law
from topics import codec

SECOND = 1_000_000
CONTENT = ("payload", "coordinate", "model_revision")


def row(tenant: str, id_: str, part: str, **more: Any) -> dict[str, Any]:
    """A row's record; fields of the other part have their defaults."""
    return {
        "id": id_, "tenant": tenant, "namespace": "", "part": part, "version": 1, "offset": 0,
        "content_version": 0, "memory_type": "episodic", "importance_raw": None, "created_ts": 0,
        "updated_ts": 0, "accessed_ts": 0, "access_count": 0, "links": {}, "deleted": False,
        "coordinate": "", "payload": "", "vector": b"", "model_revision": "",
    } | more  # fmt: skip


class Log:
    """What a recall node has read: rows, encoded as they are in the topic."""

    def __init__(self, holding: Holding | None = None) -> None:
        self.rows = Rows(holding or Holding(Law()))

    def head(self, tenant: str, id_: str, **more: Any) -> None:
        record = row(tenant, id_, HEAD_PART, **more)
        key = head_key(tenant, record["namespace"], id_)
        self.rows.row(0, key.encode(), codec.encode(SCHEMA, record))

    def content(self, tenant: str, id_: str, vector: Any = (), **more: Any) -> None:
        raw = vector if isinstance(vector, bytes) else np.array(vector, "<f4").tobytes()
        record = row(tenant, id_, CONTENT_PART, **{"payload": "{}", "vector": raw} | more)
        key = content_key(tenant, record["namespace"], id_)
        self.rows.row(0, key.encode(), codec.encode(SCHEMA, record))

    def memory(self, tenant: str, id_: str, vector: Any = (), **more: Any) -> None:
        """Both rows of a new memory."""
        said = {
            name: more.pop(name)
            for name in ("payload", "coordinate", "model_revision")
            if name in more
        }
        namespace, version = more.get("namespace", ""), more.get("version", 1)
        self.content(tenant, id_, vector, namespace=namespace, version=version, **said)
        self.head(tenant, id_, **{"content_version": version} | more)

    def gone(self, tenant: str, id_: str, content: bool = False) -> None:
        """A tombstone."""
        key = content_key(tenant, "", id_) if content else head_key(tenant, "", id_)
        self.rows.row(0, key.encode(), None)
