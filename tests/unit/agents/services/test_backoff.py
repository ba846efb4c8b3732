from agents.services.backoff import FIRST_S, LONGEST_S, Backoff


def test_an_outage_has_one_beginning_and_one_end() -> None:
    now = 100.0
    backoff = Backoff(lambda: now)
    assert backoff.due and not backoff.down
    assert backoff.answered() == 0.0
    assert backoff.failed(), "the first failure begins the outage"
    assert backoff.down and not backoff.due
    now = 101.0
    assert backoff.due
    assert not backoff.failed()
    now = 130.0
    assert backoff.answered() == 30.0
    assert not backoff.down


def test_waits_grow_to_a_limit_and_differ() -> None:
    now = 0.0
    backoff = Backoff(lambda: now)
    waits = []
    for _ in range(40):
        backoff.failed()
        start = now
        while not backoff.due:
            now += 0.01
        waits.append(now - start)
    assert FIRST_S / 2 <= waits[0] <= FIRST_S + 0.02
    assert all(wait <= LONGEST_S + 0.02 for wait in waits)
    assert min(waits[10:]) >= LONGEST_S / 2 - 0.02
    assert len({round(wait, 2) for wait in waits[10:]}) > 5, "jitter"
