"""The names of a batch's domains, "tenant 0x1f domain", as `Store.find_domains` wants them."""

import numpy as np

from agents.engine.processor import Batch
from agents.engine.records import put_bytes
from agents.kit.packing import SEPARATOR, Bytes, Ints
from topics.compiled import entry


@entry
def _join(
    buf: Bytes, tenant_pos: Ints, tenant_size: Ints, domain_pos: Ints, domain_size: Ints,
    status: Bytes, lo: int, hi: int, out: Bytes, pos: Ints, size: Ints,
) -> None:  # fmt: skip
    """out[pos[i]:][:size[i]] = the name of record i, for those among lo..hi-1 with status 0."""
    used = 0
    for i in range(lo, hi):
        if status[i] != 0:
            continue
        pos[i] = used
        used = put_bytes(out, used, buf, tenant_pos[i], tenant_size[i])
        out[used] = SEPARATOR
        used = put_bytes(out, used + 1, buf, domain_pos[i], domain_size[i])
        size[i] = used - pos[i]


class Keys:
    """Where the names stand: text[pos[i]:][:size[i]] is record i's. Joining may make others."""

    def __init__(self) -> None:
        self.text = np.empty(0, np.uint8)
        self.pos, self.size = np.zeros((2, 0), np.int64)

    def join(self, batch: Batch, tenant: int, domain: int, lo: int, hi: int, need: int) -> None:
        """Join the texts of these slots, of records lo..hi-1 with status 0: `need` bytes at most.

        They must lie inside the batch's buffer.
        """
        if self.text.shape[0] < need:
            self.text = np.empty(2 * need, np.uint8)
        if self.pos.shape[0] < hi:
            self.pos, self.size = np.zeros((2, max(hi, 2 * self.pos.shape[0])), np.int64)
        c = batch.columns.cols
        _join(
            batch.buf, c.pos[tenant], c.len[tenant], c.pos[domain], c.len[domain], batch.status,
            lo, hi, self.text, self.pos, self.size,
        )  # fmt: skip
