"""`soma bench rows`: a row processor and the same job by its peers, alternating."""

from collections.abc import Iterator
from dataclasses import replace

from ops.bench import pipeline, row_floor
from ops.bench.filling import observations
from ops.bench.pipeline import PEERS, Pipeline, Results, Workload, as_json
from ops.bench.report import Report
from ops.bench.works import ROWS
from ops.examples import COUNTS
from ops.examples.install import ENVIRONMENT

__all__ = ["PEERS", "RowsPipeline", "Workload", "as_json", "report"]

NUMBERS = 16  # of an observation's vector
GOALS = {
    "bare": "≥ 3.5 ×", "faust": "≥ 40 ×", "quix-state": "≥ 8 ×", "kstreams": "≥ 1 ×",
    "soma": "≥ 120,000 records/s",
}  # fmt: skip
METHOD = (
    "A plain Python function over a record and a row (ops/examples/counting.py): a tenant's "
    "observations are counted, the norms of their vectors (16 numbers) summed, and one record "
    "written for each. Every program reads the same topic ({events:,} observations, {tenants:,} "
    "tenants, {partitions} partitions, compression {compression}) from its beginning on one "
    "broker, on the same machine, in alternation, {runs} times each: median (min - max). Peers: "
    "the clock runs from the first record in hand to the last one folded. This engine: from the "
    "first commit seen on the output topic to the last, state, transactions and CRC checks on. "
    "CPU: the program's own process, all threads, over the same span. Slow peers fold fewer "
    "records (column events). Rate ratio: the engine's median over the program's; CPU ratio: the "
    "program's over the engine's."
)


class RowsPipeline(Pipeline):
    """One run set on one broker."""

    work, processor, source_name, sink_name = ROWS, "counting", "cog.observations", COUNTS
    environment = ENVIRONMENT

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Observations."""
        return observations(
            self.workload.events, self.workload.tenants, self.workload.seed, NUMBERS
        )


def report(workload: Workload, results: Results) -> Report:
    """The table of a run set, and what of it is the law's."""
    table = pipeline.report(workload, results, GOALS, "rows", METHOD)
    return replace(table, notes=[*table.notes, row_floor.note(row_floor.floor(NUMBERS))])
