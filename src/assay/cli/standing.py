"""How a run's checkpoints stand, as the journal tells: by their weights, whichever files hold them under whatever names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from assay.checkpoints.layouts import run_folder_of
from assay.paths import text_path
from assay.results.labels import Labels
from assay.results.records import Attempt, CheckpointSeen, Finished, Run


@dataclass(frozen=True, slots=True)
class _File:
    """A checkpoint's file at the journal's last word. digest: of its weights as they are now; "" if they could not be read."""

    seen: CheckpointSeen
    digest: str

    @property
    def label(self) -> str:
        return self.seen.checkpoint

    @property
    def place(self) -> PurePosixPath:
        return text_path(self.seen.path)

    @property
    def rank(self) -> tuple[bool, bool, int, str]:
        """What is there and says more of the weights comes first: see `assay.results.labels`."""
        return self.seen.gone, not self.seen.numbered, self.seen.iteration, self.seen.path


class Standing:
    """One run. suites: what it is asked. base_answers: how many were counted, by whoever reads the journal."""

    def __init__(self) -> None:
        self.suites: list[str] = []
        self.base_answers: int = 0
        self._bases: dict[Path, set[str]] = {}
        self._files: dict[tuple[str, str], _File] = {}
        self._digests: dict[tuple[object, ...], str] = {}
        self._tries: dict[str, list[Attempt]] = {}
        self._labels = Labels()
        self._finished: dict[tuple[str, str], dict[str, Finished]] = {}

    def begin(self, record: Run, segment: Path) -> None:
        """What is asked of the run, and on which bases: those of the process that began it last."""
        self.suites = [use.name for use in record.suites]
        self._bases = {segment: {*self._bases.get(segment, ()), record.identity}}

    def see(self, record: CheckpointSeen) -> None:
        """A file's state. What could not be used keeps the digest that was taken of it in the same state."""
        files = record.size, record.modified_ns, record.config_size, record.config_modified_ns
        state = (record.host, record.path, *files)
        if record.digest:
            self._digests[state] = record.digest
        self._labels.take(record)
        self._files[record.host, record.path] = _File(record, self._digests.get(state, ""))

    def tried(self, record: Attempt) -> None:
        """A try that came to nothing."""
        self._tries.setdefault(record.digest, []).append(record)

    def finish(self, record: Finished) -> None:
        """A suite was gone through."""
        self._finished.setdefault((record.digest, record.identity), {})[record.suite] = record

    def checkpoints(self, tries: int) -> list[dict[str, Any]]:
        """One for each label of each weights, by iteration. tries: at one checkpoint, at most."""
        ever = set(self._digests.values())
        rows = [self._weights([], digest, tries) for digest in self._finished_digests() if digest not in ever]
        held: dict[str, list[_File]] = {}
        for file in sorted(self._present(), key=lambda each: each.rank):
            if file.digest:
                held.setdefault(file.digest, []).append(file)
            else:
                rows.append(self._row(file, state="set aside", reason=file.seen.reason))
        for digest, files in held.items():
            rows += self._holders(digest, files, tries)
        return sorted(rows, key=lambda row: (row["iteration"], row["checkpoint"]))

    def _present(self) -> list[_File]:
        """Without what a run's former folder held under a label that stands for other weights now, and that nobody asked."""
        last: dict[str, _File] = {}
        for file in self._files.values():
            known = last.get(file.label)
            if known is None or known.seen.seq < file.seen.seq:
                last[file.label] = file
        asked = {digest for digest, _ in self._finished}

        def is_left_over(file: _File) -> bool:
            now = last[file.label]
            folders = {(each.seen.host, run_folder_of(each.place)) for each in (file, now)}
            return len(folders) > 1 and file.digest != now.digest and file.digest not in asked

        return [file for file in self._files.values() if not is_left_over(file)]

    def _finished_digests(self) -> list[str]:
        return list(dict.fromkeys(digest for digest, _ in self._finished))

    def _bases_now(self) -> set[str]:
        return {identity for known in self._bases.values() for identity in known}

    def _asked(self, digest: str) -> Mapping[str, Finished]:
        """What was asked of the weights, by suite, on the base that the run was last asked on."""
        bases = self._bases_now()
        known = [suites for (d, base), suites in self._finished.items() if d == digest and (base in bases or not bases)]
        return known[-1] if known else {}

    def _holders(self, digest: str, files: Sequence[_File], tries: int) -> list[dict[str, Any]]:
        """The one that the results stand under, and other numbered ones that have the same weights."""
        asked = self._asked(digest)
        label = self._labels.of(files[0].seen.run, digest)
        own = files[0].label if label is None else label.name
        files = sorted(files, key=lambda file: file.label != own)
        rows = [self._weights(files, digest, tries)]
        others = {file.label: file for file in files if file.label != own and file.seen.numbered and not file.seen.gone}
        finished = _told(asked)
        last = f"has the weights of {own}"
        return rows + [self._row(file, state="same", last=last, finished=finished) for file in others.values()]

    def _weights(self, files: Sequence[_File], digest: str, tries: int) -> dict[str, Any]:
        """files: that hold the weights, the one first whose label they have; none if they were seen in no folder."""
        bases = self._bases_now()
        asked = self._asked(digest)
        tried = [a for a in self._tries.get(digest, []) if digest and (a.identity in ("", *bases) or not bases)]
        failed = sum(each.failed for each in asked.values())
        reason = next((file.seen.reason for file in files if file.seen.reason), "")
        last = tried[-1].reason if tried else ""
        if all(suite in asked for suite in self.suites) and not failed:
            state, reason = "done", ""
        elif reason:
            state = "set aside"
        elif not all(suite in asked for suite in self.suites):
            state = "waiting"
        else:
            state = "failed samples" if len(tried) < tries else "set aside"  # of the base, every watch asks them again
            last = last or f"{failed} sample{'s' if failed > 1 else ''} failed"
        of = {"state": state, "reason": reason, "attempts": len(tried), "last": last, "finished": _told(asked)}
        if files:
            return self._row(files[0], **of)
        known = next(iter(asked.values()), None) or self._any_finished(digest)
        fresh = {"checkpoint": known.checkpoint, "iteration": known.iteration, "digest": digest, "host": "", "path": ""}
        return {**fresh, **of}

    def _any_finished(self, digest: str) -> Finished:
        """Of weights that were asked on another base."""
        return next(record for (d, _), suites in self._finished.items() if d == digest for record in suites.values())

    def _row(self, file: _File, **of: Any) -> dict[str, Any]:
        seen = file.seen
        return {
            "checkpoint": seen.checkpoint,
            "state": "",
            "iteration": seen.iteration,
            "digest": file.digest,
            "host": seen.host,
            "path": seen.path,
            "reason": "",
            "attempts": 0,
            "last": "",
            "finished": {},
            **of,
        }


def _told(asked: Mapping[str, Finished]) -> dict[str, dict[str, Any]]:
    return {
        suite: {
            "asked": record.asked,
            "failed": record.failed,
            "truncated": record.truncated,
            "proof": record.proof or None,
        }
        for suite, record in asked.items()
    }
