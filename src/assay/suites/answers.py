"""Answers that already exist, from the files of several tools, in constant memory.

The format is told by the content first, by the ending only where that says nothing:

- JSON lines with `prompt` and `response` (`formats.responses`);
- lm-evaluation-harness's `samples_*.jsonl` (`formats.lm_eval`);
- inspect_ai's `.eval` and `.json` logs (`formats.inspect_log`);
- the output of OpenAI's Batch API (`formats.openai_batch`);
- Parquet and CSV (`formats.tables`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from assay.errors import BadInput, SuiteError
from assay.suites.formats import lm_eval, openai_batch, packed, responses, tables
from assay.suites.formats.base import Answered, BadLine, NoAnswer, Unfit, answered, decoded, kind, table_record
from assay.suites.formats.records import begins_as_list, numbered_records
from assay.suites.formats.seen import Seen
from assay.suites.readers import Place

__all__ = ["Answered", "BadLine", "NoAnswer", "answers_of", "read_answers"]

_log = logging.getLogger(__name__)

_FORMATS = "JSON lines, lm-eval samples, an inspect log, OpenAI Batch output, Parquet or CSV"
# Where an answer's number is not that of a line.
_ROWS = ("read_parquet", "read_eval", "read_json")
_TRIED = 100  # lines looked at for one that tells the format


def read_answers(
    path: str | Path,
    *,
    on_bad: Callable[[BadLine], None] | None = None,
    strict: bool = False,
    requests: str | Path | None = None,
) -> Iterator[Answered]:
    """The answers of a file, in its order, read as they are asked for.

    on_bad: told of each line that can't be understood; the others go on. Left out, they are logged as warnings. strict:
    the first such line is raised as a `SuiteError` instead. requests: the input of an OpenAI batch, where the prompts
    are; by default a file beside the output, see `formats.openai_batch`.

    Where the file records that a question was asked in vain, an `Answered` has a `failure`. It is passed over where some
    line of the file has an answer under the same id, model and repeat: the question was asked again. Two answers with the
    same id, model and repeat are a mistake: the second one is a bad line. Raises `SuiteError` at once if the file is not
    there or is of no known format, and at the end if not one line could be understood; `BadInput` for `requests` where
    they don't apply.
    """
    path = Path(path)
    if not path.is_file():
        raise SuiteError(f"{path}: {'a folder; name a file in it' if path.is_dir() else 'there is no such file'}")
    read = _reader(path)
    if requests is None:
        again = partial(read, path)
    elif read is not openai_batch.read:
        raise BadInput(f"requests belong to OpenAI Batch output, which {path} is not")
    elif not Path(requests).is_file():
        raise SuiteError(f"{requests}: there is no such file")
    else:
        again = partial(openai_batch.read, path, Path(requests))
    rows = getattr(read, "__name__", "") in _ROWS or begins_as_list(path)
    return _checked(path, again, on_bad or _warn, strict, rows=rows)


def answers_of(
    records: Iterable[object],
    *,
    on_bad: Callable[[BadLine], None] | None = None,
    strict: bool = False,
) -> Iterator[Answered]:
    """The answers that `records` hold, in their order, taken as they are asked for: what `read_answers` is to a file.

    A mapping is read like a row of a table (`formats.base.answered`); an `Answered` is taken as it is. Which question was
    asked again is known of a sequence only: of what can be gone through once, each failure counts. A bad record's place is
    its number, from 1.
    """
    path = Path("answers")
    several = isinstance(records, Sequence)
    repeats, ids = (
        several and any(isinstance(one, Mapping) and one.get(name) is not None for one in records)
        for name in ("repeat", "id")
    )

    def read() -> Iterator[Answered | BadLine]:
        for number, record in enumerate(records, start=1):
            place = Place(path, row=number)
            if isinstance(record, Answered):
                yield record
            elif isinstance(record, Mapping):
                try:
                    yield answered(table_record(record), number, repeats=repeats, ids=ids)
                except Unfit as unfit:
                    yield unfit.at(place)
            else:
                yield BadLine(place, f"an answer must be a mapping, such as a dict, or an Answered, not {kind(record)}")

    return _checked(path, read, on_bad or _warn, strict, rows=True, again=several)


def _warn(bad: BadLine) -> None:
    _log.warning("%s", bad)


def _checked(
    path: Path,
    read: Callable[[], Iterator[Answered | BadLine]],
    on_bad: Callable[[BadLine], None],
    strict: bool,
    *,
    rows: bool,
    again: bool = True,
) -> Iterator[Answered]:
    """again: `read` can be called a second time."""
    good = bad = 0
    first: BadLine | None = None
    untold: list[BadLine] = []  # the first bad line, which is the error itself where nothing follows
    for item in _once(path, read, rows=rows, again=again):
        for line in untold:
            on_bad(line)
        untold = []
        if isinstance(item, Answered):
            good += 1
            yield item
            continue
        if strict:
            raise item.place.error(item.reason)
        bad += 1
        if first is None:
            first, untold = item, [item]
        else:
            on_bad(item)
    if good:
        for line in untold:
            on_bad(line)
        return
    if first is None:
        raise SuiteError(f"{path}: there are no answers in it")
    others = f"; none of the other {bad - 1:,} gives an answer either" if bad > 1 else ""
    raise first.place.error(first.reason + others)


def _once(
    path: Path, read: Callable[[], Iterator[Answered | BadLine]], *, rows: bool, again: bool
) -> Iterator[Answered | BadLine]:
    """Each answer once: a second one is a bad line, and a failure beside an answer to the same question is nothing."""
    seen = Seen()
    given: Seen | None = None
    for item in read():
        if isinstance(item, BadLine):
            yield item
        elif item.failure is not None:
            if given is None:
                given = _given(read()) if again else Seen()
            if not given.add(item.id, item.model, item.repeat or 0):
                yield item
        elif seen.add(item.id, item.model, item.repeat or 0):
            yield _duplicate(item, Place(path, row=item.line) if rows else Place(path, item.line))
        else:
            yield item


def _given(found: Iterator[Answered | BadLine]) -> Seen:
    """Which questions have an answer, and to which of their repeats."""
    given = Seen()
    for item in found:
        if isinstance(item, Answered) and item.failure is None:
            given.add(item.id, item.model, item.repeat or 0)
    return given


def _duplicate(item: Answered, place: Place) -> BadLine:
    of = f" of the model {item.model!r}" if item.model else ""
    which = f", repeat {item.repeat}" if item.repeat else ""
    return BadLine(place, f"a second answer{of} under the id {item.id!r}{which}", item.id, item.model)


def _reader(path: Path) -> Callable[[Path], Iterator[Answered | BadLine]]:
    by, head = packed.packing(path), packed.head(path)
    if not head:
        raise SuiteError(f"{path}: the file is empty")
    ending = Path(packed.unpacked_name(path)).suffix.lower()
    if by and head.startswith((b"PAR1", b"PK\x03\x04")):
        raise SuiteError(f"{path}: compressed with {by}, which this format is already; unpack it first")
    if head.startswith(b"PAR1"):
        return tables.read_parquet
    if head.startswith(b"PK\x03\x04"):
        from assay.suites.formats import inspect_log

        return inspect_log.read_eval
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Place(path, 1).error("UTF-16 text; save the file as UTF-8")
    if ending in (".csv", ".tsv") or tables.is_csv(head):
        return tables.read_csv
    if ending == ".parquet":
        raise SuiteError(f"{path}: not a Parquet file, whatever its name says")
    if b'"version"' in head[:200]:
        from assay.suites.formats import inspect_log

        if inspect_log.is_log(path):
            return inspect_log.read_json
    return _json_lines(path)


def _json_lines(path: Path) -> Callable[[Path], Iterator[Answered | BadLine]]:
    """The reader for a file of JSON lines, by the first line that is a JSON object."""
    first: tuple[Place, str] | None = None
    for place, _, line in islice(numbered_records(path), _TRIED):
        try:
            record = decoded(line if line is not None else b"")
        except Unfit as unfit:
            broken = line is not None and line.strip() == b"["
            first = first or (
                place,
                "a JSON list that does not come to its end, or is not valid" if broken else str(unfit),
            )
            continue
        if lm_eval.fits(record):
            return lm_eval.read
        return openai_batch.read if openai_batch.fits(record) else responses.read
    if first is None:
        raise SuiteError(f"{path}: the file is empty")
    raise first[0].error(f"{first[1]}; answers are read from {_FORMATS}")
