"""The bare transactional loop of the latency benchmark: consume, fold, produce, commit per poll.

One transaction holds all that a poll brought, and the consumer's offsets; state is in memory only.
Runs until it is stopped.
"""

from confluent_kafka import Consumer, Producer

from ops.bench.job import Job
from ops.bench.law import State, fold, new_state
from ops.bench.wire import decode_update, encode_frame

POLL_RECORDS = 10_000


def main() -> None:
    job = Job.given()
    quiet = {"bootstrap.servers": job.bootstrap, "log_level": 0}
    consumer = Consumer(
        quiet
        | {
            "group.id": job.run,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 1,
        }
    )
    # Its default of 100 ms is what a transaction's start waits for the last one's markers.
    producer = Producer(
        quiet | {"transactional.id": job.run, "linger.ms": 0, "retry.backoff.ms": 5}
    )
    producer.init_transactions(30)
    consumer.subscribe([job.source])
    tenants: dict[str, State] = {}
    while True:
        first = consumer.poll(1.0)
        if first is None or first.error() is not None:
            continue
        producer.begin_transaction()
        for message in [first, *consumer.consume(POLL_RECORDS, 0)]:
            update = decode_update(message.value() or b"")
            state = tenants.get(update["tenant"])
            if state is None:
                state = tenants[update["tenant"]] = new_state()
            place = f"{job.id_prefix}-{message.partition()}-{message.offset()}"
            frame = encode_frame(fold(state, update, place))
            producer.produce(job.sink, frame, message.key(), message.partition() or 0)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
        )
        producer.commit_transaction(30)


if __name__ == "__main__":
    main()
