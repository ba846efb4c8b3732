"""The engine: runs processors on the partitions this worker owns, every record exactly once.

A package (agents/<processor>/) declares a `Processor` and knows nothing of Kafka; the engine knows
nothing of any law. Between them stands `processor.py`: start there, then `partition.py`, then
`work.py`.

The life of a batch
    1. Faust's consumer fetches. `batches.py` makes aiokafka hand over record batches as they came,
       compressed; `transport.py` makes Faust deliver all that one fetch brought from a partition as
       one event. `app.py`'s agent gives it to `engine.py`, which gives it to its partition.
    2. `partition.py` lets batches wait while a transaction commits, then has all of them folded at
       once in a thread, by `work.py` in a `workspace.py` (a thread's arrays, used again and again):
       unpack, `records.parse` into spans, `checks.classify`, decode into columns, `checks.admit`,
       fold, with control records (`control.py`) in their places, encode, frame.
    3. What can't be folded becomes a dead letter (`dead_letters.py`, by `reasons.py`' codes);
       what belongs to another partition is sent there (`forward.py`).
    4. The outcome is a list of ready record batches (`builder.py`): outputs, forwarded records,
       dead letters, and the changed state rows with the position behind them. `producer.py` commits
       them in one transaction. If that fails, nothing of it counts: the partition is taken anew.

The life of a partition
    Assigned, it starts its transactional producer, which fences whoever owned it before. Then
    `recovery.py` reads its rows back from the state topic into a fresh fold, and `position.py`
    compares the position among them with the log: read on from there, or stop with one of the named
    errors of `errors.py`. When the group meets anew, partitions go on meanwhile, and those that
    stay with their owner (`dealing.py` sees to it that most do) afterwards too, with the state that
    they have: had another owned one meanwhile, its producer would be fenced, and the next commit
    says so. One that has gone ends the transaction at hand and is forgotten: everything it knew is
    in Kafka.

Around it
    `registry.py` finds processors; `plan.py` compiles the codecs of one once per process, `warm.py`
    its kernels before the worker says it is ready; `metrics.py` and `pages.py` say what goes on;
    `progress.py` is what a partition says of itself, `watchdog.py` tells from it, in a thread of
    its own, what stands still, and `late.py` names folds and decisions that take long;
    `standby.py` follows the states of others' partitions; `topics/connection.py` makes aiokafka's
    clients fail by the right name; `names.py` and `derived_ids.py` are kernels that folds use;
    `digest.py` tells equal states.
"""
