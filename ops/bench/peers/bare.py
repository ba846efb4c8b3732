"""The bare loop: confluent consume, fastavro decode, fold, encode, produce, flush per poll.

No state is kept, no offset committed, no transaction made: the ceiling of a loop over records in
Python.
"""

from confluent_kafka import Consumer, Producer, TopicPartition

from ops.bench.job import Job, Meter
from ops.bench.works import State, work

POLL_RECORDS = 2000


def main() -> None:
    job = Job.given()
    quiet = {"bootstrap.servers": job.bootstrap, "log_level": 0}
    consumer = Consumer(
        quiet | {"group.id": job.run, "enable.auto.commit": False, "fetch.queue.backoff.ms": 10}
    )
    producer = Producer(
        quiet | {"linger.ms": 5, "batch.size": 1_000_000, "queue.buffering.max.messages": 1_000_000}
    )
    consumer.assign([TopicPartition(job.source, p, 0) for p in range(job.partitions)])
    tenants: dict[str, State] = {}
    mine = work(job.work)
    decode, fold, encode, new_state = mine.decode, mine.fold, mine.encode, mine.new_state
    meter = Meter(job)
    done = False
    while not done:
        messages = consumer.consume(min(POLL_RECORDS, job.events - meter.counted), 1.0)
        if messages:
            meter.start()
        for message in messages:
            record = decode(message.value() or b"")
            state = tenants.get(record["tenant"])
            if state is None:
                state = tenants[record["tenant"]] = new_state()
            place = f"{job.id_prefix}-{message.partition()}-{message.offset()}"
            output = encode(fold(state, record, place))
            producer.produce(job.sink, output, message.key(), message.partition() or 0)
        producer.flush(30)
        done = meter.count(len(messages))
    meter.report()
    consumer.close()


if __name__ == "__main__":
    main()
