"""Records that came to the wrong partition are sent on, inside the transaction."""

import numpy as np
from numpy.typing import NDArray

from agents.engine import reasons
from agents.engine.builder import RawBuilder
from agents.engine.plan import Plan
from agents.engine.processor import Place
from agents.engine.records import HOPS, ORIGIN, frame_copies, framed, read_headers
from agents.engine.workspace import FRAME_BYTES, Outcome, Workspace
from topics.catalogue import MESSAGE_BYTES_MAX

HOPS_MAX = 3  # then whoever writes it there keeps doing so: a dead letter


def forward(plan: Plan, place: Place, ws: Workspace, outcome: Outcome) -> None:
    """Send misrouted records to their place, with their origin and one hop more."""
    astray = np.flatnonzero(ws.status[: ws.n] == reasons.MISROUTED)
    if not astray.shape[0]:
        return
    hops = np.ones(ws.n, np.int64)
    for r in astray[ws.hcnt[astray] > 0]:
        hops[r] = 1 + hops_of(ws, int(r))
    ws.status[astray[hops[astray] > HOPS_MAX]] = reasons.HOPS
    astray = astray[hops[astray] <= HOPS_MAX]
    for hop in np.unique(hops[astray]):
        for home in np.unique(ws.dest[astray]):
            rows = astray[(ws.dest[astray] == home) & (hops[astray] == hop)]
            if rows.shape[0]:
                _forward_rows(plan, place, ws, rows, int(home), int(hop), outcome)


def hops_of(ws: Workspace, r: int) -> int:
    """How often a record was forwarded, as its headers say."""
    data = ws.buf.data[ws.hpos[r] : ws.hpos[r] + ws.hlen[r]].tobytes()
    found = [text for name, text in read_headers(data, int(ws.hcnt[r])) if name == HOPS.decode()]
    counts = [int(text) for text in found if text is not None and text.isdigit() and len(text) < 4]
    return max(counts, default=0)


def _forward_rows(
    plan: Plan, place: Place, ws: Workspace, rows: NDArray[np.int64],
    home: int, hop: int, outcome: Outcome,
) -> None:  # fmt: skip
    """Those of one destination and one number of hops."""
    topic = plan.source
    origin = np.frombuffer(f"{topic}/{place.partition}/".encode(), np.uint8)
    origin_key = np.frombuffer(framed(ORIGIN), np.uint8)
    hops = np.frombuffer(framed(HOPS) + framed(b"%d" % hop), np.uint8)
    tpos, tlen = ws.tpos, ws.tlen
    lo, count = 0, rows.shape[0]
    while lo < count:
        hi, end = frame_copies(
            ws.frame, 0, FRAME_BYTES, rows, lo, count, ws.buf.data, tpos, tlen,
            ws.vpos, ws.vlen, ws.hpos, ws.hlen, ws.hcnt, ws.offs, origin_key, origin, hops,
        )  # fmt: skip
        builder = RawBuilder(ws.frame[:end], max(1, hi - lo))
        if hi <= lo or builder.size() > MESSAGE_BYTES_MAX:
            hi = lo + 1 if hi <= lo else hi
            ws.status[rows[lo:hi]] = reasons.TOO_LARGE
        else:
            outcome.sends.append((topic, home, builder))
            outcome.results["misrouted"] += hi - lo
        lo = hi
