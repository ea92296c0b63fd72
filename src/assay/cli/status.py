"""`assay status`: what is done, waiting, failed and why, and how far each sink has got; from the journal alone, at any time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from assay.cli.settings import ConfigFile, Json, Workspace, settings
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
    """tries: at one state of a checkpoint, at most."""
    runs: dict[str, dict[str, Any]] = {}
    last = 0.0
    answers = 0
    from_files: dict[str, set[tuple[str, str, int]]] = {}

    def run(name: str) -> dict[str, Any]:
        fresh = {"suites": [], "base_answers": 0, "checkpoints": {}, "bases": {}, "finished": {}}
        return runs.setdefault(name, fresh)

    for at, record in read(workspace):
        last = max(last, record.time)
        match record:
            case Run():
                _take_run(run(record.run), record, at.segment)
            case CheckpointSeen():
                place = run(record.run)["checkpoints"].setdefault(record.checkpoint, _fresh(record.iteration))
                if record.digest and record.digest != place["digest"]:  # it was overwritten: nothing was done there yet
                    place.update(digest=record.digest, attempts=0, last="")
                place["reason"] = record.reason
            case Attempt():
                place = run(record.run)["checkpoints"].setdefault(record.checkpoint, _fresh(record.iteration))
                place["attempts"] += 1
                place["last"] = record.reason
            case Finished() if not record.judged:
                _take_finished(run(record.run), record)
            case CompletionMade():
                answers += 1
                run(record.run)["base_answers"] += not record.digest
            case AnswerScored():
                from_files.setdefault(record.run, set()).add((record.model, record.sample, record.repeat))
            case ScoreMade() | Failure() if record.identity == FROM_FILES:
                model = "" if record.digest == origin_of("") else record.checkpoint
                from_files.setdefault(record.run, set()).add((model, record.sample, record.repeat))
            case _:
                pass
    return {
        "workspace": str(workspace),
        "watching": is_held(workspace),
        "last": last,
        "answers": answers,
        "from_files": {name: len(places) for name, places in from_files.items()},
        "runs": [
            {
                "run": name,
                "suites": each["suites"],
                "base_answers": each["base_answers"],
                "checkpoints": [
                    _checkpoint_told(label, place, each, tries)
                    for label, place in sorted(each["checkpoints"].items(), key=lambda item: item[1]["iteration"])
                ],
            }
            for name, each in runs.items()
        ],
        "ahead": _ahead(workspace),
        "sinks": [_sink(workspace, state) for state in read_states(workspace)],
    }


def _take_run(told: dict[str, Any], record: Run, segment: Path) -> None:
    """What is asked of the run, and on which bases: those of the process that began it last."""
    told["suites"] = [use.name for use in record.suites]
    told["bases"] = {segment: {*told["bases"].get(segment, ()), record.identity}}


def _take_finished(told: dict[str, Any], record: Finished) -> None:
    place = told["checkpoints"].setdefault(record.checkpoint, _fresh(record.iteration))
    place["digest"] = place["digest"] or record.digest
    told["finished"].setdefault((record.digest, record.identity), (record.checkpoint, {}))[1][record.suite] = {
        "asked": record.asked,
        "failed": record.failed,
        "truncated": record.truncated,
        "proof": record.proof or None,
    }


def _checkpoint_told(label: str, place: dict[str, Any], run: dict[str, Any], tries: int) -> dict[str, Any]:
    """A checkpoint's state: by what was asked of its weights, as they are, on the base that the run was last asked on."""
    bases = {identity for known in run["bases"].values() for identity in known}
    by = label
    finished: dict[str, Any] = {}
    for (digest, identity), (asked, suites) in run["finished"].items():
        if digest == place["digest"] and (identity in bases or not bases):
            by, finished = asked, suites
    told = {"checkpoint": label, "state": "", **place, "finished": finished}
    if by != label and not place["reason"]:
        return {**told, "state": "same", "last": f"has the weights of {by}"}
    state = _state(place["reason"], finished, run["suites"])
    if state == "failed samples":
        failed = sum(each["failed"] for each in finished.values())
        told["last"] = told["last"] or f"{failed} sample{'s' if failed > 1 else ''} failed"
        if place["attempts"] >= tries:  # of the base, every watch asks them again
            state = "set aside"
    return {**told, "state": state}


def _ahead(workspace: Path) -> dict[str, Any]:
    """What the watch last meant to do next; empty if none has said."""
    try:
        ahead = json.loads((workspace / PLAN_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return ahead if isinstance(ahead, dict) else {}


def _fresh(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "digest": "", "reason": "", "attempts": 0, "last": "", "finished": {}}


def _state(reason: str, finished: dict[str, Any], suites: list[str]) -> str:
    if reason:
        return "set aside"
    if not all(suite in finished for suite in suites):
        return "waiting"
    return "failed samples" if any(each["failed"] for each in finished.values()) else "done"


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
        states = [each["state"] for each in run["checkpoints"] if each["checkpoint"] != "base"]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        print(f"\nrun {run['run']} ({', '.join(run['suites'])}): {counts or _base(run)}")
        for each in run["checkpoints"]:
            if each["state"] != "done":
                why = each["reason"] or each["last"]
                tries = f", tried {each['attempts']} times" if each["attempts"] > 1 else ""
                print(f"  {each['checkpoint']}: {each['state']}{tries}{': ' + why if why else ''}")
    for name, count in told["from_files"].items():
        print(f"\nrun {name}: {_number(count)} from files")
    ahead = told["ahead"] if told["watching"] else {}
    if ahead.get("work"):
        more = len(ahead["work"]) - _FEW
        print(f"\nnext: {', '.join(ahead['work'][:_FEW])}{f' and {more} more' if more > 0 else ''}")
    for label, due, reason in ahead.get("later", []):
        print(f"\nagain in {max(0.0, due - time.time()):.0f} s: {label} ({reason})")
    if ahead and not ahead.get("work"):
        print(f"\nwaiting for {ahead.get('waiting', 'the next checkpoint')}")
    if (judge := told["ahead"].get("judge")) and judge["answers"]:
        _print_judge(judge, running=bool(ahead))
    for sink in told["sinks"]:
        left = "up to date" if not sink["bytes_left"] else f"{sink['bytes_left']:,} bytes of the journal to go"
        refused = f", {sink['refused']} refused" if sink["refused"] else ""
        down = f"; down since {_ago(sink['down_since'])}: {sink['reason']}" if sink["down_since"] else ""
        print(f"\nsink {sink['sink']}: {sink['sent']:,} sent{refused}, {left}{down}")


def _print_judge(judge: dict[str, Any], *, running: bool) -> None:
    waiting = f"\njudge {judge['judge']}: {judge['answers']:,} answers to judge"
    if not judge["reason"]:
        print(waiting)
        return
    again = f", again in {max(0.0, judge['again'] - time.time()):.0f} s" if running else ""
    print(f"{waiting}; down since {_ago(judge['since'])}{again}: {judge['reason']}")
