"""What the epochs log tells of readings: epochs and states made anew, as the engine writes them."""

from agents.dlq.law import Epoch
from agents.dlq.ledger import epoch_of
from agents.engine.rebuilds import BEGINS, DONE, Rebuild
from topics import codec

EPOCH = {
    "processor": "predictors", "partition": 1, "number": 2, "from_offset": 10, "law": 3,
    "settings": {}, "policy": "", "schemas": "s", "ts": 0, "topic_id": "a",
}  # fmt: skip


def test_epochs_and_states_put_in_place_are_told_and_nothing_else() -> None:
    found = epoch_of(codec.encode("epoch", EPOCH), 500)
    assert found == (("predictors", 1), Epoch(500, 10, "a", (3, "s")))
    anew = [
        Rebuild("predictors", 1, "a", "job", "jo", state, 40).record()[1]
        for state in (BEGINS, DONE)
    ]
    assert epoch_of(anew[0], 500) is None
    assert epoch_of(anew[1], 500) == (("predictors", 1), Epoch(500, 0, "a", rebuilt=40))
    skip = dict.fromkeys(("processor", "topic_id", "author", "reason"), "")
    others = codec.encode("skip", skip | {"partition": 0, "offset": 0, "ts": 0})
    assert all(epoch_of(one, 500) is None for one in (others, b"", b"junk", None))
