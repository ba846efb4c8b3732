"""A digest of a partition's state: equal states give equal digests, whatever way led there."""

import hashlib

from agents.engine.plan import Plan
from agents.engine.processor import Fold
from agents.engine.sending import encode_rows
from agents.engine.workspace import empty_rows
from topics.columns import Buffer


def rows_of(plan: Plan, fold: Fold) -> dict[bytes, bytes]:
    """key -> value on the wire, of every row of the state."""
    rows = plan.state_rows()
    empty_rows(rows)
    fold.rows_all(rows)
    out = Buffer()
    off = encode_rows(plan, rows, fold.names, out)
    keys = [
        fold.names[p : p + n].tobytes()
        for p, n in zip(rows.key_pos[: rows.n], rows.key_len[: rows.n], strict=True)
    ]
    return {key: out.data[off[k] : off[k + 1]].tobytes() for k, key in enumerate(keys)}


def digest(plan: Plan, fold: Fold) -> str:
    """sha256 over the rows in the order of their keys, 64 hex digits."""
    total = hashlib.sha256()
    for key, value in sorted(rows_of(plan, fold).items()):
        total.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
    return total.hexdigest()
