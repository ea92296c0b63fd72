"""Which checkpoints lie in a folder and below it, on any host, from names and times alone.

A round lists folders and reads no file, but for a trainer's configuration, or the beginning of a GGUF file, that is new or
has changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from assay.checkpoints.curves import STATE, Log, is_log
from assay.checkpoints.gguf_files import GgufFiles
from assay.checkpoints.layouts import Written, is_whole_model, linked, run_folder_of, written_in
from assay.checkpoints.naming import (
    FAMILIES,
    Family,
    Names,
    called,
    names_below,
    names_in_full,
    names_of,
    own_end,
    printable,
)
from assay.checkpoints.readiness import is_young
from assay.errors import Absent, BadInput, HostFault
from assay.hosts.base import Entry, Host, shown
from assay.paths import path_text
from assay.types import Checkpoint

# Levels of folders below the watched one that runs are looked for in, and how many are listed at the same time.
_DEPTH = 4
_AT_ONCE = 32
_DIGITS = 6  # that tell runs apart whose paths are written alike
_ITERATION_DIGITS = 15  # what tables and points can hold

State: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Refused:
    """What lies there and is not touched: a link that leads out of the watched folder, or a pickled file."""

    checkpoint: Checkpoint
    reason: str


@dataclass(slots=True)
class Found:
    """What one round saw: checkpoints by run and iteration, what is refused, folders that can't be listed, trainers' logs."""

    checkpoints: list[Checkpoint] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)


class Discovery:
    """Looks at one folder of one host, again and again; remembers configurations that it has read.

    run: the run's name; of several runs, the beginning of each one's. families: those of go-ml's table, and the user's before
    them. base: the base of all checkpoints, where it is known; then no configuration is read for it. known: files below the
    folder, by their paths from there, and the runs that they were journaled under: each keeps its name, though it be gone.
    elsewhere: runs of other folders, with these; of other hosts, with none. Their names are not given again while they are
    there: one that is gone may have been moved here.
    """

    def __init__(
        self,
        host: Host,
        folder: PurePosixPath,
        run: str | None = None,
        families: Sequence[Family] = FAMILIES,
        base: str | None = None,
        known: Iterable[tuple[PurePosixPath, str]] = (),
        elsewhere: Mapping[str, Collection[PurePosixPath]] | None = None,
    ) -> None:
        self._host = host
        self._folder = folder
        self._run = run
        self._families = families
        self._base = base
        self._elsewhere = elsewhere or {}
        self._holders: defaultdict[str, set[PurePosixPath]] = defaultdict(set)
        seen: set[PurePosixPath] = set()
        for file, journaled in known:
            seen.add(folder / file)
            self._holders[journaled].add(run_folder_of(folder / file))
        self._ggufs = GgufFiles(host, seen)
        self._named: dict[PurePosixPath, Names] = {}
        self._configs: dict[PurePosixPath, tuple[State, dict[str, Any]]] = {}
        self._root: PurePosixPath | None = None

    async def look(self) -> Found:
        """What lies there now. Raises `Absent` if the folder is missing, `BadInput` if it is none or can't be listed."""
        found = Found()
        self._root = await self._real_root()
        strange: list[tuple[Written, Entry]] = []
        listings = await self._listings(found, strange)
        written = await self._ggufs.pick([w for f, entries in listings for w in written_in(f, entries)], found.unlisted)
        counted = [each for each in written if len(each.number.lstrip("0")) <= _ITERATION_DIGITS]
        beyond = [self._shown(each.weights.path) for each in written if each not in counted]
        found.unlisted += [f"{each}, whose number is too large for an iteration's" for each in sorted(beyond)]
        whole = {run_folder_of(folder / STATE) for folder, entries in listings if is_whole_model(folder, entries)}
        found.unlisted += [
            f"{self._shown(folder)}'s checkpoints of whole models: only adapters are evaluated"
            for folder in sorted(whole)
        ]
        runs: dict[PurePosixPath, list[Written]] = {}
        for each in counted:
            runs.setdefault(each.run_folder, []).append(each)
        names = await self._names(runs)
        for folder in sorted(runs):
            await self._run_of(folder, runs[folder], names[folder], found)
            found.logs += _logs(names[folder], folder, runs[folder], dict(listings))
        top = self._shown(self._folder)
        for each, link in sorted(strange, key=lambda pair: pair[1].path):
            leads = f"a link that leads {'nowhere' if link.kind == 'other' else f'out of {top}'}"
            if not _is_checkpoint_by_name(each):  # data, a cache
                found.unlisted.append(f"{self._shown(link.path)}, {leads}")
                continue
            folder = each.run_folder
            own = (names if folder in names else await self._names({folder: [each]}))[folder]
            what = "checkpoint" if link.kind == "other" else link.kind
            why = f"{self._shown(link.path)}: {leads}; put the {what} itself there"
            found.refused.append(Refused(_checkpoint(each, own, self._host.name, int(each.number or 0)), why))
        return found

    async def base_of(self, checkpoint: Checkpoint) -> str:
        """The known base, or the one that the checkpoint's configuration names; "" if it names none, or can't be read."""
        if self._base is not None:
            return self._base
        config = await self._config(checkpoint.config, (checkpoint.config_size, checkpoint.config_modified_ns))
        named = config.get("base_model_name_or_path" if checkpoint.layout == "peft" else "model")
        return named if isinstance(named, str) else ""

    async def _real_root(self) -> PurePosixPath:
        where = self._shown(self._folder)
        try:
            entry = await self._host.stat(self._folder)
            if entry is None:
                raise Absent(f"there is no folder {where}; name the one that the trainer writes its checkpoints into")
            if entry.kind != "folder":
                raise BadInput(f"{where} is a file; name the folder that the trainer writes its checkpoints into")
            return self._root or await self._host.real(self._folder)
        except HostFault as error:
            raise BadInput(f"the folder {where} cannot be read: {error}") from error

    async def _listings(
        self, found: Found, strange: list[tuple[Written, Entry]]
    ) -> list[tuple[PurePosixPath, list[Entry]]]:
        """The watched folder and those below it, each with its entries. strange: gets what `_strange` finds."""
        limit = asyncio.Semaphore(_AT_ONCE)
        listings: list[tuple[PurePosixPath, list[Entry]]] = []

        async def one(folder: PurePosixPath, depth: int) -> list[PurePosixPath]:
            try:
                async with limit:
                    entries = await self._host.list(folder)
            except HostFault as error:
                if depth == 0:
                    raise BadInput(f"the folder {self._shown(folder)} cannot be read: {error}") from error
                if error.kind != "missing":  # the trainer deleted it between the listings
                    found.unlisted.append(f"{self._shown(folder)}: {error}")
                return []
            inside = [e for e in entries if not e.link or (e.kind != "other" and await self._is_inside(e.path))]
            listings.append((folder, inside))
            strange.extend(_strange([e for e in entries if e not in inside], folder, entries))
            return [e.path for e in inside if e.kind == "folder" and not e.link and not e.path.name.startswith(".")]

        level = [self._folder]
        for depth in range(_DEPTH + 2):
            below = await asyncio.gather(*(one(folder, depth) for folder in level))
            level = sorted(path for paths in below for path in paths)
            if depth == _DEPTH:  # a run's checkpoints are found wherever the run itself is
                level = [path for path in level if run_folder_of(path / STATE) != path]
            if not level:
                break
        return sorted(listings)

    async def _is_inside(self, path: PurePosixPath) -> bool:
        assert self._root is not None
        try:
            return (await self._host.real(path)).is_relative_to(self._root)
        except HostFault:  # it leads nowhere
            return False

    async def _names(self, runs: Mapping[PurePosixPath, Sequence[Written]]) -> dict[PurePosixPath, Names]:
        """Each run folder's names, which it keeps from then on; two folders never share one, be one of them gone."""
        new = {folder: self._candidates(folder) for folder in sorted(runs) if folder not in self._named}
        for folder, candidates in new.items():
            taken = {each.run for each in self._named.values()}
            once = [*candidates, *self._journaled(folder, candidates[0])]
            kept = next((n for n in once if folder in self._holders[n.run] and n.run not in taken), None)
            if kept is not None:
                self._named[folder] = kept
        held = await self._held_elsewhere({each.run for candidates in new.values() for each in candidates})
        fresh = {folder: candidates[:-1] for folder, candidates in new.items() if folder not in self._named}
        wanted = Counter(first.run for first, *_ in fresh.values())
        for folder, (first, *others) in fresh.items():
            taken = {each.run for each in self._named.values()} | held
            taken |= {run for run, holders in self._holders.items() if holders - {folder}}
            free = [n for n in others if n.run not in taken | wanted.keys()]
            alone = wanted[first.run] == 1 and first.run not in taken
            self._named[folder] = first if alone else free[0] if free else others[-1]
        return self._named

    async def _held_elsewhere(self, runs: Collection[str]) -> set[str]:
        """Which of these are runs of other folders that are there. One that can't be looked at is taken to be."""

        async def is_there(folder: PurePosixPath) -> bool:
            try:
                return await self._host.stat(folder) is not None
            except HostFault:
                return True

        found = {run: self._elsewhere[run] for run in runs if run in self._elsewhere}
        return {run for run, folders in found.items() if not folders or any([await is_there(f) for f in folders])}

    def _journaled(self, folder: PurePosixPath, names: Names) -> list[Names]:
        """What the folder was called when another one around it was watched, or one within."""
        if self._run is not None:  # which says what it is to be called
            return []
        return [called(names, run) for run, holders in self._holders.items() if folder in holders]

    def _candidates(self, folder: PurePosixPath) -> tuple[Names, ...]:
        """What a run folder is called; where another one is called so; where that is, too; what it was called once.

        The third holds within the watched folder, the fourth in whatever other folders there are.
        """
        top, absolute = self._absolute(self._folder), self._absolute(folder)
        below = names_below(top, absolute, self._families)
        full = names_in_full(top, absolute, self._families)
        once = names_of(absolute, self._families)
        if self._run is not None:
            relative = printable(absolute.relative_to(top))
            below = called(below, "/".join((self._run, *own_end(relative.parts))))
            full = called(full, "/".join((self._run, *relative.parts)))
            once = called(below, self._run)
        within, anywhere = path_text(folder.relative_to(self._folder)), f"{self._host.name}:{path_text(absolute)}"
        apart = [called(full, f"{full.run}-{_digits(path)}") for path in (within, anywhere)]
        return below, full, *apart, once

    def _shown(self, path: PurePosixPath) -> str:
        return shown(self._host.name, path)

    def _absolute(self, folder: PurePosixPath) -> PurePosixPath:
        """With the watched folder as it really is: a run's name doesn't depend on where one stands."""
        assert self._root is not None
        if not self._folder.is_absolute() or ".." in self._folder.parts:
            return self._root / folder.relative_to(self._folder)
        return folder

    async def _run_of(self, folder: PurePosixPath, written: Sequence[Written], names: Names, found: Found) -> None:
        numbered = sorted((w for w in written if w.number), key=lambda w: (int(w.number), str(w.weights.path)))
        last = int(numbered[-1].number) if numbered else 0
        alike = Counter(_number(w) for w in written if w.layout == "gguf")

        def put(each: Written, iteration: int) -> None:
            apart = each.layout == "gguf" and alike[_number(each)] > 1
            self._put(_checkpoint(each, names, self._host.name, iteration, apart=apart), each, found)

        for each in numbered:
            put(each, int(each.number))
        for each in written:
            if not each.number:
                iteration = await self._iteration(each, last, folder)
                if iteration is not None:
                    put(each, iteration)

    def _put(self, checkpoint: Checkpoint, written: Written, found: Found) -> None:
        if written.pickled:
            why = (
                f"{self._shown(checkpoint.weights)}: pickled weights can run code and are never read; save the adapter as "
                "safetensors (safe_serialization=True)"
            )
            found.refused.append(Refused(checkpoint, why))
        else:
            found.checkpoints.append(checkpoint)

    async def _iteration(self, written: Written, last: int, folder: PurePosixPath) -> int | None:
        """The iteration of a file without a number; None while it is but a copy of a numbered one that is to come.

        mlx-lm writes it first and the numbered one after it, at each multiple of `save_every`; only what it writes at the very
        end, between two multiples, stays unnumbered. A folder that holds nothing else was copied from somewhere, or has just
        begun: then the numbered one is still to come. PEFT's trainers write it when they are done.
        """
        if written.layout == "peft" or written.config is None:
            return last
        config = await self._config(written.config_path, (written.config.size, written.config.modified_ns))
        iterations, every = _whole(config, "iters"), _whole(config, "save_every")
        if iterations and every:
            final = iterations - iterations % every
            if not (last == 0 if iterations == final else last >= final):
                return None
        return max(last, iterations)

    async def _config(self, path: PurePosixPath, state: State) -> dict[str, Any]:
        known = self._configs.get(path)
        if known is not None and known[0] == state:
            return known[1]
        try:
            value = json.loads(await self._host.read(path))
        except (HostFault, ValueError, RecursionError):  # being written, or to be told of when the checkpoint is read
            return {}
        config = value if isinstance(value, dict) else {}
        if not is_young(state[1]):  # another one of the same size may follow within the second, and look the same
            self._configs[path] = state, config
        return config


def _strange(links: Sequence[Entry], folder: PurePosixPath, entries: Sequence[Entry]) -> list[tuple[Written, Entry]]:
    """Of links that lead out of the watched folder, those to folders or nowhere, and those where an adapter's files stand."""
    folders = [(linked(e), e) for e in links if e.kind == "folder" and not e.path.name.startswith(".")]
    files = [(each, e) for each in written_in(folder, entries) for e in links if e in (each.weights, each.config)]
    lost: list[tuple[Written, Entry]] = []
    for link in links:
        if link.kind == "other" and not link.path.name.startswith("."):
            as_file = written_in(folder, [replace(link, kind="file")])
            lost.append((as_file[0] if as_file else linked(link), link))
    return [*folders, *lost, *{each.weights.path: (each, e) for each, e in reversed(files)}.values()]


def _is_checkpoint_by_name(written: Written) -> bool:
    """Whether the name of what a link stands for says that it is a checkpoint; a GGUF file without a number may be a model."""
    return bool(written.number) or (written.weights.kind == "file" and written.layout != "gguf")


def _logs(
    names: Names, folder: PurePosixPath, written: Sequence[Written], listings: Mapping[PurePosixPath, Sequence[Entry]]
) -> list[Log]:
    """The logs in a run's folder, and the state beside its last checkpoint, which tells all that came before."""
    last = max(written, key=lambda w: int(w.number or 0)).weights.path.parent
    own = [entry for entry in listings.get(folder, ()) if is_log(entry)]
    beside = [e for e in listings.get(last, ()) if e.path.name == STATE and is_log(e)] if last != folder else []
    return [Log(names.run, names.tag, names.run_id, entry) for entry in (*own, *beside)]


def _number(written: Written) -> int | None:
    return int(written.number) if written.number else None


def _checkpoint(written: Written, names: Names, host: str, iteration: int, *, apart: bool = False) -> Checkpoint:
    """apart: another file is of the same iteration, so its own name is part of the label."""
    number = written.number or (str(iteration) if written.layout == "mlx" else "final")
    label = names.label(number) or (f"{names.run} @final" if number == "final" else "")
    if apart:
        label = f"{label or f'{names.run} @{iteration}'} {printable(PurePosixPath(written.weights.path.stem))}"
    config = written.config
    return Checkpoint(
        run=names.run,
        iteration=iteration,
        weights=written.weights.path,
        config=written.config_path,
        size=written.weights.size,
        modified_ns=written.weights.modified_ns,
        config_size=config.size if config is not None else 0,
        config_modified_ns=config.modified_ns if config is not None else 0,
        host=host,
        layout=written.layout,
        name=label,
        tag=names.tag,
        run_id=names.run_id,
        numbered=bool(written.number),
    )


def _whole(config: dict[str, Any], name: str) -> int:
    """A whole number from the trainer's configuration; 0 if it isn't there."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _digits(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:_DIGITS]
