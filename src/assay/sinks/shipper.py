"""Forwards the journal to one sink, at least once: its cursor moves only when the sink has taken a batch.

A sink that is down is asked again, with growing pauses, for as long as it takes; the journal waits. A fact that a sink will
never take is set aside in a file, and the others go on. The cursor is written to a file of its own and put in place at once, so
that a crash leaves the old one: then some facts are sent again, which sinks take without a second row. A store that is gone
and made again has another id, and gets all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from assay.errors import BadInput, Unreachable
from assay.sinks.base import Fact, Poison, Sink
from assay.sinks.feed import Batch, Cursor, Feed

BATCH = 5_000  # facts: half of it takes twice the time, twice of it more memory and no less time
_READABLE = 40  # characters of a place in the name of its state's file
_IDLE_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class SinkState(msgspec.Struct, omit_defaults=True):
    """How far a sink has got; kept in `sinks/` in the workspace, in a file for each place that a sink writes to.

    name: what the sink was last called. store: the store's own id, see `Sink.check`.
    sent: facts that it took, those sent again counted again. set_aside: those that it never will take. left: bytes of the
    journal that were still to read. since: when it was found to be down, in seconds since the epoch, with the reason; 0 if it
    isn't.
    """

    v: int = 1
    name: str = ""
    store: str = ""
    cursor: Cursor = {}
    sent: int = 0
    set_aside: int = 0
    left: int = 0
    since: float = 0.0
    reason: str = ""


def state_file(workspace: Path, place: str) -> Path:
    """Where the state of the sink that writes to `place` lies: a name that people know it by, and one that is its own."""
    readable = re.sub(r"[^\w.-]+", "-", place.rsplit("/", 1)[-1])[-_READABLE:]
    return workspace / "sinks" / f"{readable}-{hashlib.sha256(place.encode()).hexdigest()[:12]}.json"


def read_states(workspace: Path) -> list[SinkState]:
    """The states of all sinks that the workspace was forwarded to, in the order of their names."""
    states = map(_read_state, sorted((workspace / "sinks").glob("*.json")))
    return sorted((state for state in states if state.name), key=lambda state: state.name)


def _read_state(path: Path) -> SinkState:
    """A sink's state; a fresh one if it has none, or none that can be read: then all is sent again."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SinkState)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return SinkState()


class Shipper:
    """One sink's delivery. note: told when the sink goes down and comes back, and of what is set aside.

    taken: how many facts the sink took of this shipper.
    """

    def __init__(self, workspace: Path, sink: Sink, note: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._sink = sink
        self._note = note
        self._file = state_file(workspace, sink.place)
        self._refused = self._file.with_suffix(".refused.jsonl")
        self._state = _read_state(self._file)
        self._state.name = sink.name
        self._feed: Feed | None = None
        self.taken = 0

    @property
    def state(self) -> SinkState:
        return self._state

    async def check(self) -> None:
        """Find out whether the sink can be written to, and whether it still is what it was. Raises as `Sink.check` does."""
        self._is_known(await self._sink.check())

    def begin_anew(self) -> None:
        """Send all of the journal, also what the sink has taken. Also what it refused is shown to it again."""
        known = self._state
        self._state = SinkState(name=known.name, store=known.store, since=known.since, reason=known.reason)
        self._feed = None
        self._save()
        self._refused.unlink(missing_ok=True)

    def _is_known(self, store: str) -> bool:
        """Whether the store has what was sent, as far as it can tell. Another one than before lacks all."""
        if not self._state.sent:
            self._state.store = store
        if store in ("", self._state.store):
            return True
        self._note(f"the sink {self._sink.name} isn't known to have what was sent; all of it is sent again")
        self._state.store = store
        self.begin_anew()
        return False

    async def run(self) -> None:
        """Forward what is there and what comes, for ever."""
        while True:
            if not await self._deliver_next(patient=True):
                await asyncio.sleep(_IDLE_SECONDS)

    async def drain(self) -> None:
        """Forward all that is there now. Raises `Unreachable` or `BadInput` if the sink doesn't take it."""
        while await self._deliver_next(patient=False):
            pass

    async def _deliver_next(self, *, patient: bool) -> bool:
        """Deliver a batch; False if there was none."""
        try:
            if self._feed is None:
                self._feed = await asyncio.to_thread(Feed, self._workspace, self._state.cursor)
            batch = await asyncio.to_thread(self._feed.next, BATCH)
            if batch.cursor == self._state.cursor:
                return False
            if not await self._deliver(batch, patient):
                return True
        except BaseException:
            # What was read and not delivered, also because we were cancelled meanwhile, is read again.
            self._feed = None
            raise
        self._state.cursor, self._state.left = batch.cursor, batch.left
        self._save()
        return bool(batch.facts)

    async def _deliver(self, batch: Batch, patient: bool) -> bool:
        """Whether the batch is where all before it are: False if the store is a new one, which needs those too."""
        facts: Sequence[Fact] = batch.facts
        pause = _FIRST_PAUSE
        while facts:
            try:
                store = await self._sink.take(facts)
            except Poison as poison:
                self._put_aside([(facts[i], reason) for i, reason in sorted(poison.reasons.items())])
                facts = [fact for i, fact in enumerate(facts) if i not in poison.reasons]
                continue
            except (Unreachable, BadInput) as error:
                self._down(str(error), say=patient)
                if not patient:
                    raise
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if not self._is_known(store):
                return False
            self._state.sent += len(facts)
            self.taken += len(facts)
            break
        if self._state.since:
            self._note(f"the sink {self._sink.name} takes results again")
            self._state.since, self._state.reason = 0.0, ""
        return True

    def _down(self, reason: str, *, say: bool) -> None:
        if not self._state.since or self._state.reason != reason:
            if say:
                self._note(
                    f"the sink {self._sink.name} takes nothing ({reason}); results are kept and sent when it does"
                )
            self._state.since, self._state.reason = self._state.since or time.time(), reason
            self._save()

    def _put_aside(self, facts: Sequence[tuple[Fact, str]]) -> None:
        """Keep what the sink refuses for good in a file beside its cursor, and say so."""
        if not facts:
            raise AssertionError("a sink that names no fact can't be gone on with")
        self._refused.parent.mkdir(parents=True, exist_ok=True)
        with self._refused.open("ab") as file:
            for fact, reason in facts:
                line = {"reason": reason, "fact": type(fact).__name__, **msgspec.structs.asdict(fact)}
                file.write(msgspec.json.encode(line) + b"\n")
        self._state.set_aside += len(facts)
        self._note(
            f"the sink {self._sink.name} refuses {len(facts)} results ({facts[0][1]}); they are in {self._refused}"
        )

    def _save(self) -> None:
        """Put the state in its place. If that can't be done (a full disk), the old one stays: more is sent again later."""
        temporary = self._file.with_suffix(".new")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(self._state))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._file)
