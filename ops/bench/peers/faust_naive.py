"""Faust as its documentation shows it: an agent, a table, a send per record. At least once."""

import os
import sys

import faust

from ops.bench.job import Job, Meter
from ops.bench.works import work

job = Job.given()
mine = work(job.work)
app = faust.App(
    job.run,
    broker=f"kafka://{job.bootstrap}",
    store="memory://",
    datadir=job.folder,
    topic_partitions=job.partitions,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    producer_linger=0.02,
    producer_max_batch_size=262_144,
    broker_commit_interval=1.0,
    worker_redirect_stdouts=False,
    web_enabled=False,
)
source = app.topic(
    job.source, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
)
sink = app.topic(
    job.sink, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
)
tenants = app.Table("tenants", partitions=job.partitions)
meter = Meter(job)


@app.agent(source)
async def integrate(stream: faust.StreamT[bytes]) -> None:
    """Fold each record into the tenant's row of the table, and send what comes of it."""
    async for event in stream.events():
        if meter.counted >= job.events:
            continue
        meter.start()
        record = mine.decode(event.value)
        state = tenants.get(record["tenant"]) or mine.new_state()
        place = f"{job.id_prefix}-{event.message.partition}-{event.message.offset}"
        value = mine.encode(mine.fold(state, record, place))
        tenants[record["tenant"]] = state
        await sink.send(key=event.key, value=value, partition=event.message.partition)
        if meter.count():
            await app.producer.flush()
            meter.report()
            os._exit(0)  # a clean stop waits for tens of seconds


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "-l", "error", "--without-web"]
    app.main()
