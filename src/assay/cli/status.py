"""`assay status`: what is done, waiting, failed and why, and how far each sink has got; from the journal alone, at any time."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.cli.settings import ConfigFile, Json, Workspace, settings
from assay.cli.standing import Standing
from assay.hosts.base import shown
from assay.paths import printable, text_path
from assay.results.journal import is_held, no_results, read, segments
from assay.results.records import (
    FROM_FILES,
    AnswerScored,
    Attempt,
    CheckpointSeen,
    CompletionMade,
    Failure,
    Finished,
    Run,
    ScoreMade,
    TextWeighed,
    origin_of,
)
from assay.sinks.shipper import SinkState, read_states
from assay.watch import PLAN_FILE

_FEW = 5


def status(*, as_json: Json = False, workspace: Workspace = None, config: ConfigFile = None) -> int:
    """Show what is done, what failed and why, and how far each sink has got.

    It reads the journal only: ask it from another terminal while a watch runs.
    """
    found = settings(config, workspace)
    if not segments(found.workspace):
        raise no_results(found.workspace)
    told = _told(found.workspace, found.watch.attempts)
    _print_json(told) if as_json else _print(told)
    return 0


def _told(workspace: Path, tries: int) -> dict[str, Any]:
    """tries: at one checkpoint, at most."""
    known = _read(workspace)
    return {
        "workspace": str(workspace),
        "watching": is_held(workspace),
        "last": known.last,
        "answers": known.answers,
        "from_files": {name: len(places) for name, places in known.from_files.items()},
        "runs": [
            {
                "run": name,
                "suites": run.suites,
                "base_answers": run.base_answers,
                "checkpoints": run.checkpoints(tries),
            }
            for name, run in known.runs.items()
        ],
        "ahead": _ahead(workspace),
        "sinks": [_sink(workspace, state) for state in read_states(workspace)],
    }


@dataclass(slots=True)
class _Known:
    """What the journal holds. last: the time of its last record. from_files: by run, the answers that were read in."""

    runs: defaultdict[str, Standing] = field(default_factory=lambda: defaultdict(Standing))
    from_files: defaultdict[str, set[tuple[str, str, int]]] = field(default_factory=lambda: defaultdict(set))
    answers: int = 0
    last: float = 0.0


def _read(workspace: Path) -> _Known:
    known = _Known()
    for at, record in read(workspace):
        known.last = max(known.last, record.time)
        match record:
            case Run():
                known.runs[record.run].begin(record, at.segment)
            case CheckpointSeen():
                known.runs[record.run].see(record)
            case Attempt():
                known.runs[record.run].tried(record)
            case Finished() if not record.judged:
                known.runs[record.run].finish(record)
            case CompletionMade() | TextWeighed():
                known.answers += 1
                known.runs[record.run].base_answers += not record.digest
            case AnswerScored():
                known.from_files[record.run].add((record.model, record.sample, record.repeat))
            case ScoreMade() | Failure() if record.identity == FROM_FILES:
                model = "" if record.digest == origin_of("") else record.checkpoint
                known.from_files[record.run].add((model, record.sample, record.repeat))
            case _:
                pass
    return known


def _ahead(workspace: Path) -> dict[str, Any]:
    """What the watch last meant to do next; empty if none has said."""
    try:
        ahead = json.loads((workspace / PLAN_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return ahead if isinstance(ahead, dict) else {}


def _sink(workspace: Path, state: SinkState) -> dict[str, Any]:
    left = sum(path.stat().st_size for path in segments(workspace)) - sum(each.read for each in state.cursor.values())
    return {
        "sink": state.name,
        "sent": state.sent,
        "refused": state.set_aside,
        "bytes_left": max(0, left),
        "down_since": state.since or None,
        "reason": state.reason,
    }


def _print_json(told: dict[str, Any]) -> None:
    print(json.dumps(told, ensure_ascii=False, indent=2))


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _number(count: int) -> str:
    return f"{count:,} answer" + ("" if count == 1 else "s")


def _counted(told: dict[str, Any]) -> str:
    given, read_in = told["answers"], sum(told["from_files"].values())
    if not read_in:
        return _number(given)
    return f"{_number(given)} and {read_in:,} from files" if given else f"{_number(read_in)} from files"


def _base(run: dict[str, Any]) -> str:
    given = run["base_answers"]
    return f"no checkpoints, {_number(given)} of the base" if given else "no checkpoints yet"


def _print(told: dict[str, Any]) -> None:
    watching = "a watch is running" if told["watching"] else "no watch is running"
    print(f"{told['workspace']}: {watching}; {_counted(told)}, last record {_ago(told['last'])}")
    for run in told["runs"]:
        _print_run(run)
    for name, count in told["from_files"].items():
        print(f"\nrun {name}: {_number(count)} from files")
    ahead = told["ahead"] if told["watching"] else {}
    if ahead:
        _print_ahead(ahead)
    if (judge := told["ahead"].get("judge")) and judge["answers"]:
        _print_judge(judge, running=bool(ahead))
    for sink in told["sinks"]:
        left = "up to date" if not sink["bytes_left"] else f"{sink['bytes_left']:,} bytes of the journal to go"
        refused = f", {sink['refused']} refused" if sink["refused"] else ""
        down = f"; down since {_ago(sink['down_since'])}: {sink['reason']}" if sink["down_since"] else ""
        print(f"\nsink {sink['sink']}: {sink['sent']:,} sent{refused}, {left}{down}")


def _print_run(run: dict[str, Any]) -> None:
    states = [each["state"] for each in run["checkpoints"] if each["checkpoint"] != "base"]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"\nrun {run['run']} ({', '.join(run['suites'])}): {counts or _base(run)}")
    labels = Counter(each["checkpoint"] for each in run["checkpoints"])
    for each in run["checkpoints"]:
        if each["state"] != "done":
            why = _lines(each["reason"] or each["last"])
            tries = f", tried {each['attempts']} times" if each["attempts"] > 1 else ""
            # Two weights of one label are told apart by their files.
            place = f" ({shown(each['host'], text_path(each['path']))})" if labels[each["checkpoint"]] > 1 else ""
            print(f"  {printable(each['checkpoint'])}{place}: {each['state']}{tries}{': ' + why if why else ''}")


def _print_ahead(ahead: dict[str, Any]) -> None:
    if work := ahead.get("work"):
        more = len(work) - _FEW
        print(f"\nnext: {printable(', '.join(work[:_FEW]))}{f' and {more} more' if more > 0 else ''}")
    for label, due, reason in ahead.get("later", []):
        print(f"\nagain in {max(0.0, due - time.time()):.0f} s: {printable(label)} ({_lines(reason)})")
    if not work:
        print(f"\nwaiting for {printable(ahead.get('waiting', 'the next checkpoint'))}")


def _lines(reason: str) -> str:
    """A reason as it is printed: one that lists differences has a line for each."""
    return "\n".join(printable(line) for line in reason.split("\n"))


def _print_judge(judge: dict[str, Any], *, running: bool) -> None:
    waiting = f"\njudge {judge['judge']}: {judge['answers']:,} answers to judge"
    if not judge["reason"]:
        print(waiting)
        return
    again = f", again in {max(0.0, judge['again'] - time.time()):.0f} s" if running else ""
    print(f"{waiting}; down since {_ago(judge['since'])}{again}: {judge['reason']}")
