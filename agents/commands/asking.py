"""A request to a processor that answers on soma.audit: written, and its answer heard."""

import json
import time
from typing import TYPE_CHECKING, Any

import click

from agents.tools.publisher import Publisher
from agents.tools.reader import TopicReader, seen

if TYPE_CHECKING:
    from agents.settings import Settings

AUDIT = "soma.audit"
ANSWER_S = 30.0


def ask(
    settings: "Settings", topic: str, key: str, value: bytes, processor: str, named: tuple[str, str]
) -> dict[str, Any]:
    """The detail of the first answer of the processor in which a field has a value: `named`.

    ClickException where the request isn't (surely) written, or nobody answers in time.
    """
    failures: list[str] = []
    answers = TopicReader(settings, AUDIT, "end", of=key)  # from before it is asked
    try:
        with Publisher(settings, topic, lambda _, why: failures.append(why)) as publisher:
            publisher.send(key.encode(), value)
            if publisher.close() or failures:
                raise click.ClickException(f"not asked: {(failures or ['no answer in time'])[0]}")
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            for message in answers.read():
                detail = _detail(seen(message, AUDIT, "audit_event").record, processor)
                if detail.get(named[0]) == named[1]:
                    return detail
    finally:
        answers.close()
    raise click.ClickException(
        f"nobody has answered within {ANSWER_S:g} s: is there a worker that runs `{processor}`? "
        "The request is written, and obeyed when one does"
    )


def _detail(event: dict[str, Any] | None, processor: str) -> dict[str, Any]:
    """What a processor says of its actions, PROCESSOR or PROCESSOR.WHAT; {} of others'."""
    if event is None or event["action"].partition(".")[0] != processor:
        return {}
    found: dict[str, Any] = json.loads(event["detail"])
    return found
