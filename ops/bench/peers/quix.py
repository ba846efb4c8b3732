"""Quix Streams, with its state (RocksDB and a changelog topic) or without. At least once."""

from typing import Any

from quixstreams import Application, State, message_context

from ops.bench.job import Job, Meter
from ops.bench.works import work

STATEFUL = "quix-state"


def main() -> None:
    job = Job.given()
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.run,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        loglevel="ERROR",
        state_dir=job.folder,
        producer_extra_config={"linger.ms": 5, "log_level": 0},
        consumer_extra_config={"log_level": 0},
    )
    source = app.topic(job.source, key_deserializer="bytes", value_deserializer="bytes")
    sink = app.topic(job.sink, key_serializer="bytes", value_serializer="bytes")
    meter = Meter(job)
    tenants: dict[str, dict[str, Any]] = {}
    mine = work(job.work)
    decode, fold, encode, new_state = mine.decode, mine.fold, mine.encode, mine.new_state

    def place() -> str:
        context = message_context()
        return f"{job.id_prefix}-{context.partition}-{context.offset}"

    def without_state(value: bytes) -> bytes:
        meter.start()
        record = decode(value)
        state = tenants.get(record["tenant"])
        if state is None:
            state = tenants[record["tenant"]] = new_state()
        output = encode(fold(state, record, place()))
        meter.count()
        return output

    def with_state(value: bytes, state: State) -> bytes:
        # Quix keys its state by the record's key, which is the tenant.
        meter.start()
        row = state.get("tenant") or new_state()
        output = encode(fold(row, decode(value), place()))
        state.set("tenant", row)
        meter.count()
        return output

    outputs = app.dataframe(source)
    if job.peer == STATEFUL:
        outputs = outputs.apply(with_state, stateful=True)
    else:
        outputs = outputs.apply(without_state)
    outputs.to_topic(sink)
    app.run(count=job.events)  # flushes and commits at the end
    meter.report()


if __name__ == "__main__":
    main()
