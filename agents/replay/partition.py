"""A partition of a rebuild: folded in a thread, compared, and put in the live one's place."""

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

from agents.engine.errors import Fenced, Stopped
from agents.engine.plan import Plan
from agents.engine.rebuilds import Rebuild, rebuilds_since
from agents.history.beside import NOTHING, Beside, Compared
from agents.history.errors import HistoryError
from agents.history.outputs import Gathered
from agents.history.published import looked_for
from agents.history.rows import Differing, Digest
from agents.history.states import Lost, Past
from agents.replay.bounds import EVERY
from agents.replay.budget import slice_of
from agents.replay.command import Command, said_of
from agents.replay.handover import Handover
from agents.replay.modes import JobFailedError, Step, Take
from agents.replay.paying import Paying
from agents.replay.switch import Sends, Switch
from agents.settings import Settings
from topics.connection import heard
from topics.partition import partition_of

TELL_S = 0.4  # between two steps of a fold
STOP_S = 0.5  # for a fold to hear that it is to end; then it ends by itself, and sends nothing
ATTEMPTS = 4  # to put rows in their place, while owners change
CATCH_UPS = 10
NEAR = 2_000  # offsets that are left for when the partition's owner waits
NAMED_MAX = 20  # rows that differ, in what is said of a job
NAMED_BYTES_MAX = 2_000  # of one of them; one that is larger is named without its fields
LIVE, ANEW = "live", "anew"
SNAPSHOT = "snapshot"  # as what a fold may begin with

log = logging.getLogger(__name__)


def newest_of(command: Command) -> bool | None:
    """Whether it is to begin with the newest snapshot; None: as is best."""
    return command.begin == SNAPSHOT if command.begin else None


def _accepted(command: Command, partition: int) -> Lost:
    """What may be missing of a partition."""
    first, end = (
        one.offsets.get(partition, one.offsets.get(EVERY)) if one is not None else None
        for one in command.bounds
    )
    return NOTHING if first is None or end is None else Lost(first, end)


class Partition:
    """A partition of the work."""

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, span: tuple[int, int],
        command: Command, switch: Switch,
    ) -> None:  # fmt: skip
        self._settings, self._plan, self._partition = settings, plan, partition
        self._command, self._switch = command, switch
        self._tenants = [
            one for one in command.tenants if partition_of(one, plan.partitions) == partition
        ]
        self._accepted = _accepted(command, partition)
        self._said = said_of(command.folded_to).get(partition)
        self._word: Rebuild | None = None  # of what is being committed
        self._applied: Rebuild | None = None  # and of what is
        self._at, self._end = span
        self._read = 0
        self._stop = threading.Event()
        self._slice = slice_of(settings.replay_rate, command.rate_limit)
        self._beside: Beside | None = None
        self._compared = Compared(Digest(), Digest(), [])
        self.sent: Counter[str] | None = None  # outputs of the whole job, where they are sent
        self._handover: Handover | None = None
        self._gathered: Gathered | None = None  # outputs, where the law was another
        self._published: dict[str, tuple[int, int]] = {}  # topic -> how many, how many found

    def send(
        self, targets: Mapping[str, Mapping[str, Any]], sent_to: int, sent: Counter[str]
    ) -> None:
        """Send what the fold gives there, behind an offset; `sent` goes on counting."""
        self.sent = sent
        self._handover = Handover(self._plan, targets, self._tenants, sent_to, self._stop)

    @property
    def left(self) -> int:
        """Offsets of its range that no step has told yet."""
        return self._end - self._at

    @property
    def applying(self) -> bool:
        """Whether rows that differ are written."""
        return self._command.apply

    async def steps(self, take: Take) -> AsyncGenerator[Step, None]:
        """Fold it, compare, and apply. JobFailedError; those of clients pass."""
        paying = Paying(take, self._stop, asyncio.get_running_loop())
        with failing():
            if self.applying and await asyncio.to_thread(self._was_applied):
                return
            async with aclosing(self._thread(lambda: self._fold(paying))) as going:
                async for _ in going:
                    yield self._step()
        if lacking := self._compared.lacking:
            raise JobFailedError(
                f"tenants: nothing of {', '.join(lacking)}, neither live nor made anew"
            )
        yield self._step()
        beside = self._beside
        if self.applying and beside is not None and (beside.changes or beside.why):
            async with aclosing(self._apply(beside, paying)) as switching:
                async for step in switching:
                    yield step

    def _was_applied(self) -> bool:
        """Whether this job, before its worker died, has done it already. In a thread."""
        found, _ = rebuilds_since(self._settings, self._plan, self._partition, 0)
        mine = [one for one in found if self._switch.was_it(one)]
        self._applied = mine[-1] if mine else None
        return bool(mine)

    def _fold(self, paying: Paying) -> None:
        """In a thread."""

        def told(past: Past) -> None:
            if self._handover is not None:
                self._handover.hear(past)
            if self._gathered is not None:
                self._gathered.add(past.folding.heard())
            paying(past)

        beside = Beside(
            self._settings, self._plan, self._partition, self._tenants, told, self._said,
            newest_of(self._command),
        )  # fmt: skip
        beside.past.folding.most = self._slice
        if beside.begin(self._accepted):
            self._beside = beside
            if self._handover is not None:
                self._handover.begin(beside)
            if beside.past.other_law:
                beside.past.folding.heard()  # from now on
                self._gathered = Gathered(self._plan)
            beside.fold()
            self._compared = beside.compare()
            self._look_for_outputs(beside.past, paying)
        else:
            self._compared = Compared(Digest(), Digest(), [], sorted(self._tenants))

    def _look_for_outputs(self, past: Past, paying: Paying) -> None:
        """How many outputs would be others under the law of today. In a thread."""
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        gathered.add(past.folding.heard())
        for place, expected in gathered.places:
            for _ in looked_for(self._settings, place, 0, expected):
                paying(past)
        self._published = gathered.counts()

    async def _apply(self, beside: Beside, paying: Paying) -> AsyncGenerator[Step, None]:
        """Put the rows in the place of the live ones. JobFailedError; those of clients pass."""
        for attempt in range(ATTEMPTS):
            with failing():
                await self._do(lambda: _catch_up(beside))
                owned = False  # by another owner, who came and needn't wait
                try:
                    announcement = self._switch.announcement(beside, attempt)
                    yield Step({}, sends=announcement, settles=True)
                    await self._do(self._switch.announced)
                    # The partition's owner waits.
                    paying.free, beside.past.folding.most = True, 0
                    await self._put(beside)
                    return
                except Fenced as error:
                    owned = True
                    log.warning("%s: another owner came: %s", beside.past.where, error)
                finally:
                    paying.free, beside.past.folding.most = False, self._slice
                    await self._switch.close()
                    if not owned:
                        await self._switch.withdraw()
            await asyncio.sleep(attempt + 1.0)
        raise JobFailedError(
            f"{beside.past.where}: others took the partition {ATTEMPTS} times while its rows were "
            "to be put in their place: the live state is as it was"
        )

    async def _put(self, beside: Beside) -> None:
        """Fence the owner, fold to where it was, and commit. Fenced, KafkaError, HistoryError."""
        await self._switch.fence()
        sends: Sends = []

        def last() -> None:
            beside.read_on()
            beside.fold()
            self._compared = beside.compare()
            self._word, found = self._switch.sends(beside, self._compared)
            sends.extend(found)

        await self._do(last)
        await self._switch.commit(sends)
        self._applied = self._word

    async def _do(self, work: Callable[[], None]) -> None:
        """Something in a thread, of which nothing is told meanwhile."""
        async with aclosing(self._thread(work)) as going:
            async for _ in going:
                pass

    async def _thread(self, work: Callable[[], None]) -> AsyncGenerator[None, None]:
        """Do something in a thread; yields now and then while it goes on."""
        task = asyncio.ensure_future(asyncio.to_thread(work))
        task.add_done_callback(heard)
        try:
            while not (await asyncio.wait({task}, timeout=TELL_S))[0]:
                yield
            task.result()
        finally:
            if not task.done():
                self._stop.set()
                await asyncio.wait({task}, timeout=STOP_S)

    def _step(self) -> Step:
        """How far it has got on since the last one."""
        if self._beside is None:
            return Step({})
        past = self._beside.past
        read, self._read = past.records - self._read, past.records
        step = Step({self._partition: past.at})
        if self._handover is not None and self.sent is not None:
            step = self._handover.step(self._partition, self.sent)
        # What is sent may lie behind what the job began with; its range stays as it was.
        at = min(max(step.position.get(self._partition, 0), self._at), self._end)
        step.done, step.read, self._at = at - self._at, read, at
        if self._handover is None:
            step.position = {self._partition: at}
        return step

    @property
    def result(self) -> dict[str, Any]:
        """What was found, as JSON data."""
        found, beside, word = self._compared, self._beside, self._applied
        applied = None if word is None else {
            "written": word.rows, "offset": word.next_offset, "lost": word.lost
        }  # fmt: skip
        if word is not None and beside is None:  # before the worker died
            of = "what a worker did that is gone"
            return _result(of, word.next_offset, word.rows, [], []) | {
                "digest": word.digest_before, "digest_anew": word.digest_after, "applied": applied,
            }  # fmt: skip
        if beside is None:
            return _result("nothing, for nothing is folded yet", 0, 0, [], [])
        unlike, past = found.differing, beside.past
        notes = [*past.notes, *(past.asides if unlike else ())]
        notes += [f"{beside.why}"] if beside.why else []
        named = [_named(one) for one in unlike[:NAMED_MAX]]
        return _result(beside.of, beside.until, len(unlike), named, notes) | {
            "rows": found.live.rows, "digest": found.live.hex,
            "rows_anew": found.anew.rows, "digest_anew": found.anew.hex, "applied": applied,
            "begun": past.begun, "outputs": self._published,
        }  # fmt: skip


def _result(
    of: str, to: int, differ: int, named: list[dict[str, Any]], notes: list[str]
) -> dict[str, Any]:
    none = Digest().hex
    return {
        "from": of, "to": to, "rows": 0, "digest": none, "rows_anew": 0, "digest_anew": none,
        "differ": differ, "differing": named, "notes": notes, "applied": None, "begun": None,
        "outputs": {},
    }  # fmt: skip


def _catch_up(beside: Beside) -> None:
    """Fold what came meanwhile, so that little is left for when the owner waits. In a thread."""
    for _ in range(CATCH_UPS):
        before = beside.until
        beside.read_on()
        beside.fold()
        if beside.until - before < NEAR:
            return


def _named(one: Differing) -> dict[str, Any]:
    """A row that differs, as JSON data; without its fields where they are large."""
    data = one.data(LIVE, ANEW)
    return data if len(json.dumps(data)) <= NAMED_BYTES_MAX else {"key": one.key}


@contextmanager
def failing() -> Iterator[None]:
    """What the past or a processor refuses ends the job."""
    try:
        yield
    except (HistoryError, Stopped) as error:
        raise JobFailedError(str(error)) from error
