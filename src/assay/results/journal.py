"""The append-only record of everything that happened; the only source of truth.

Each writing process appends JSON lines to a segment file of its own, so two writers never share a file. What is promised:

- a record is handed to the operating system before `append` returns: killing the process loses nothing that was appended;
- the disk is told once a second, and at once by `sync_soon` and `sync`: a power cut may cost the last second, never a torn
  or wrong record, because readers take whole lines only and count what they skip;
- a write that fails (disk full) leaves no half line for a later record to be glued to.

Not protected: a disk that lies about having written, and other programs that edit the segments.
"""

from __future__ import annotations

import calendar
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import msgspec

from assay.errors import NO_ROOM, DiskFault, WorkspaceError
from assay.results.records import SCHEMA_VERSION, AnyRecord, IndexedRecord

if TYPE_CHECKING:
    from filelock import FileLock

_SYNC_SECONDS = 1.0
_NAMED = "%Y%m%dT%H%M%S"  # the moment in a segment's name, with nanoseconds behind it
_ROOM = 4096  # bytes without which no work is begun: a full disk still makes empty files
_LOCK_SECONDS = 1.0  # who merely looks whether the lock is held, holds it for a moment
# How a line fails to be a record: no JSON of the right shape, bytes that are no UTF-8, nested without end.
NO_RECORD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)
_indexed: msgspec.json.Decoder[IndexedRecord] = msgspec.json.Decoder(IndexedRecord)
T = TypeVar("T")


class _Version(msgspec.Struct):
    v: int = 0
    kind: str = ""


_version = msgspec.json.Decoder(_Version)


class Damage(msgspec.Struct):
    """Lines that could not be read: torn tails of crashed writers and anything that is no record."""

    lines: int = 0


class Location(NamedTuple):
    """Where a record's line stands: its segment, its first byte, its length in bytes."""

    segment: Path
    offset: int
    length: int


def _opened(segment: Path) -> BinaryIO:
    try:
        return segment.open("rb")
    except OSError as error:
        raise WorkspaceError(f"the journal's {segment} cannot be read ({error.strerror}); see who owns it") from error


def segments(workspace: Path) -> list[Path]:
    """The journal's segment files, in the order of their names."""
    return sorted((workspace / "journal").glob("*.jsonl"))


def read(workspace: Path, damage: Damage | None = None) -> Iterator[tuple[Location, AnyRecord]]:
    """All records, segment by segment. Raises `WorkspaceError` at a record of a newer schema."""
    for segment in segments(workspace):
        yield from _read(segment, damage, _decoder)


def indexed(workspace: Path, damage: Damage | None = None) -> Iterator[tuple[Location, IndexedRecord]]:
    """As `read`, for an index: of an answer from a file, whose scores nobody looks up, only `seq` is read."""
    for segment in segments(workspace):
        yield from _read(segment, damage, _indexed)


def _read(segment: Path, damage: Damage | None, decoder: msgspec.json.Decoder[T]) -> Iterator[tuple[Location, T]]:
    """A segment's whole lines; the tail after the last newline belongs to a writer at work, or to one that crashed."""
    offset = 0
    with _opened(segment) as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                _count(damage)
                return
            record = _parse(segment, number, line, decoder)
            if record is None:
                _count(damage)
            else:
                yield Location(segment, offset, len(line)), record
            offset += len(line)


def read_on(segment: Path, offset: int) -> Iterator[tuple[Location, AnyRecord | None]]:
    """A segment's whole lines from the byte `offset` on, which begins one; None for what is no record. Raises as `read`."""
    with _opened(segment) as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield Location(segment, offset, len(line)), _parse(segment, 0, line, _decoder)
            offset += len(line)


def read_at(location: Location) -> AnyRecord:
    """The one record at `location`."""
    with location.segment.open("rb") as file:
        file.seek(location.offset)
        return parsed(file.read(location.length))


def parsed(line: bytes) -> AnyRecord:
    """The record of a line. Raises one of `NO_RECORD`."""
    return _decoder.decode(line)


def _count(damage: Damage | None) -> None:
    if damage is not None:
        damage.lines += 1


def _parse(segment: Path, number: int, line: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        return decoder.decode(line)
    except NO_RECORD:
        pass
    try:
        seen = _version.decode(line)
    except NO_RECORD:
        return None
    if seen.v > SCHEMA_VERSION:
        raise WorkspaceError(
            f"{segment}{f':{number}' if number else ''}: this journal was written by a newer assay (schema {seen.v}, this "
            f"one knows {SCHEMA_VERSION}); upgrade assay, or name another workspace with --workspace"
        )
    return None


def no_results(workspace: Path) -> WorkspaceError:
    """What a reader says of a workspace without a journal."""
    return WorkspaceError(
        f"there are no results in {workspace}; run assay watch, probe or score first, or name the folder with --workspace"
    )


def check_schema(workspace: Path) -> None:
    """Raise `WorkspaceError` if any record is of a newer schema, without building anything."""
    for segment in segments(workspace):
        with _opened(segment) as file:
            for number, line in enumerate(file, 1):
                try:
                    seen = _version.decode(line)
                except NO_RECORD:
                    continue
                if seen.v > SCHEMA_VERSION:
                    _parse(segment, number, b'{"v":%d,"kind":"?"}' % seen.v, _decoder)


def _moment(time_ns: int) -> str:
    return f"{time.strftime(_NAMED, time.gmtime(time_ns // 10**9))}.{time_ns % 10**9:09d}"


def _time_of(moment: str) -> int:
    """Nanoseconds; of a name that is none of ours, a time that sorts behind it is not to be had, and now must do."""
    seconds, _, fraction = moment.partition(".")
    try:
        return calendar.timegm(time.strptime(seconds, _NAMED)) * 10**9 + int(fraction)
    except ValueError:
        return time.time_ns()


class Journal:
    """A writer's own segment. Use it as a context manager, from one process; `append` is safe from any thread."""

    def __init__(self, workspace: Path, first_seq: int) -> None:
        self.workspace = workspace
        self._folder = workspace / "journal"
        self._lock = threading.Lock()
        self._seq = first_seq
        self._file: int | None = None
        self._length = 0
        self._dirty = False
        self._closed = False
        self._wake = threading.Event()
        self.segment: Path | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".writable-{os.getpid()}-{os.urandom(3).hex()}"
            try:
                probe.write_bytes(bytes(_ROOM))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise self._refused(error) from error
            raise WorkspaceError(
                f"the workspace {workspace} cannot be written to ({error.strerror}); "
                "name another folder with --workspace"
            ) from error
        self._syncer = threading.Thread(target=self._sync_now_and_then, name="journal sync", daemon=True)
        self._syncer.start()

    def append(self, record: AnyRecord) -> tuple[Location, AnyRecord]:
        """Write one record; it is the operating system's when this returns. Raises `DiskFault` if the disk refuses.

        Where it stands, and the record as it is there: with its number and time.
        """
        return self.append_all((record,))[0]

    def append_all(self, records: Sequence[AnyRecord]) -> list[tuple[Location, AnyRecord]]:
        """Write records with one call to the system: all of them, or none if the disk refuses. Otherwise as `append`."""
        with self._lock:
            now = round(time.time(), 6)
            written = [
                msgspec.structs.replace(record, v=SCHEMA_VERSION, seq=seq, time=now)
                for seq, record in enumerate(records, self._seq)
            ]
            lines = [_encoder.encode(record) + b"\n" for record in written]
            try:
                segment, file = self._open()
                self._write(file, b"".join(lines))
            except OSError as error:
                raise self._refused(error) from error
            locations = []
            for line in lines:
                locations.append(Location(segment, self._length, len(line)))
                self._length += len(line)
            self._seq += len(lines)
            self._dirty = True
            return list(zip(locations, written, strict=True))

    def _refused(self, error: OSError) -> DiskFault:
        return DiskFault(
            f"the journal in {self._folder} cannot be written to ({error.strerror}); what was written before is safe: make "
            "room and run the same command again"
        )

    def _open(self) -> tuple[Path, int]:
        # Opened at the first record: a command that writes nothing leaves no empty segment behind.
        if self._file is None or self.segment is None:
            # What was written later must sort later, also when somebody has turned the clock back.
            moment = _moment(time.time_ns())
            last = max((segment.name[: len(moment)] for segment in segments(self.workspace)), default="")
            if moment <= last:
                moment = _moment(_time_of(last) + 1)
            name = f"{moment}-{os.getpid()}-{os.urandom(3).hex()}.jsonl"
            self.segment = self._folder / name
            self._file = os.open(self.segment, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        return self.segment, self._file

    def _write(self, file: int, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError:
            if written:
                os.ftruncate(file, self._length)
            raise

    def sync(self) -> None:
        """Return when everything appended so far is on the disk."""
        with self._lock:
            file, dirty = self._file, self._dirty
            self._dirty = False
        if file is not None and dirty:
            try:
                os.fsync(file)  # outside the lock: a slow disk must not hold up the next record
            except OSError:
                self._dirty = True
                raise

    def sync_soon(self) -> None:
        """Have everything appended so far put on the disk now, without waiting for it."""
        self._wake.set()

    def _sync_now_and_then(self) -> None:
        while not self._closed:
            self._wake.wait(_SYNC_SECONDS)
            self._wake.clear()
            try:
                self.sync()
            except OSError:
                continue  # the next append reports the disk's trouble to somebody who can act on it

    def close(self) -> None:
        """Sync and close. The journal can't be appended to any more."""
        self._closed = True
        self._wake.set()
        self._syncer.join()
        self.sync()
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hold(workspace: Path) -> FileLock:
    """Take the workspace's lock for one watch; the operating system lets go of it when the process ends, however it ends.

    Raises `WorkspaceError` if another watch holds it or the folder can't be written to.
    """
    from filelock import FileLock, Timeout

    try:
        workspace.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workspace / ".lock")
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout as error:
        raise WorkspaceError(
            f"another assay watch is at work in {workspace}; wait for it, or name another folder with --workspace"
        ) from error
    except OSError as error:
        raise WorkspaceError(
            f"the workspace {workspace} cannot be written to ({error.strerror}); name another folder with --workspace"
        ) from error
    return lock


def is_held(workspace: Path) -> bool:
    """Whether a watch is at work in the workspace, which may be one that only can be read."""
    import fcntl

    try:
        with (workspace / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
