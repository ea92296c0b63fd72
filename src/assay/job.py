"""What a watch is asked to do, and whether it can be done: all that can be seen before anything is loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from msgspec import structs

from assay.checkpoints.discover import Discovery, Found
from assay.checkpoints.layouts import run_folder_of
from assay.checkpoints.naming import FAMILIES, Family, Names, names_of
from assay.config import ModelConfig
from assay.errors import Absent, BadInput, SuiteError, Unreachable
from assay.hosts.base import Host, shown
from assay.hosts.local import LocalHost
from assay.models.base import TextModel
from assay.models.open import resolve
from assay.paths import printable, text_path
from assay.plan import PlanConfig, is_chosen
from assay.results.records import CheckpointSeen, FileSeen
from assay.scorers.base import check_suite
from assay.scorers.rubric_file import load_rubric
from assay.suites.suite import Suite
from assay.types import AdapterPlace, Checkpoint, EngineSettings, HttpSettings, Sample

# Where adapters lie for a server on this machine, in the workspace, while they are loaded there.
_SERVED = "served"


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """Who judges the answers. name: for people, until it is open. open, close: the model's; votes: see `Judge`.

    `open` raises `BadInput` for a spec that is wrong, and `Unreachable` for a server that can't be asked now.
    """

    name: str
    open: Callable[[], Awaitable[TextModel]]
    close: Callable[[TextModel], Awaitable[None]]
    votes: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What to watch and what to ask.

    folder: on `host`, which is this machine unless given. base: a model's spec; None takes what each checkpoint's configuration
    names, looked up in `bases` first. run: the run's name; None takes the folders'. every, plan: see `assay.plan`. limit:
    samples asked of each suite. fetch_bytes: copies of checkpoints held at once. judge: judges the answers of suites that have
    rubrics, see `rubrics_of`; None for nobody. models: by their specs those that have settings of their own; http: how to talk
    to a base behind a URL that hasn't.
    """

    folder: PurePosixPath
    base: str | None
    suites: tuple[Suite, ...]
    run: str | None
    workspace: Path
    once: bool = False
    every: int | None = None
    limit: int | None = None
    poll_seconds: float = 10.0
    settings: EngineSettings = field(default_factory=EngineSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    host: Host = field(default_factory=LocalHost)
    plan: PlanConfig = field(default_factory=PlanConfig)
    bases: Mapping[str, str] = field(default_factory=dict)
    families: tuple[Family, ...] = FAMILIES
    fetch_bytes: int = 20 << 30
    judge: JudgeSpec | None = None

    def remote(self, spec: str) -> tuple[HttpSettings, AdapterPlace]:
        """How to talk to a base behind a URL, and where its server finds adapters."""
        named = self.models.get(spec)
        http, place = (self.http, AdapterPlace()) if named is None else (named.http, named.adapters)
        return http, structs.replace(place, own=self.workspace / _SERVED)

    @property
    def names(self) -> Names:
        """The names of the watched folder, as it really is if it is here: commands may run from anywhere."""
        here = not self.host.name
        return names_of(PurePosixPath(Path(self.folder).resolve()) if here else self.folder, self.families)

    @property
    def default_run(self) -> str:
        """The run's name where no checkpoint says it."""
        return self.run or self.names.run

    def discovery(self, seen: Iterable[FileSeen] = ()) -> Discovery:
        """What looks at the folder. seen: what the journal says of files."""
        known: list[tuple[PurePosixPath, str]] = []
        beside: dict[str, set[PurePosixPath]] = {}
        abroad: set[str] = set()
        for record in seen:
            if (place := self._place(record)) is not None:
                known.append((place, record.run))
            elif record.path and record.run != self.run:  # a name that the user gave is checked, and not changed
                if record.host == self.host.name:
                    beside.setdefault(record.run, set()).add(run_folder_of(text_path(record.path)))
                else:
                    abroad.add(record.run)
        elsewhere = {**beside, **dict.fromkeys(abroad, ())}
        return Discovery(self.host, self.folder, self.run, self.families, self.base, known, elsewhere)

    def is_of(self, record: CheckpointSeen) -> bool:
        """Whether a checkpoint was seen in the folder that is watched now, be it a link that leads elsewhere."""
        mine = f"{record.run}/".startswith(f"{self.run or record.run}/")
        return mine and self._place(record) is not None

    def _place(self, record: FileSeen) -> PurePosixPath | None:
        """Where a file lies below the folder that is watched now; None where it doesn't."""
        if record.host != self.host.name or not record.path:
            return None
        path, folder = text_path(record.path), self.folder
        ways = [(path, folder)]
        if not record.host:
            real = Path(path).parent.resolve() / path.name
            ways = [(PurePosixPath(real), PurePosixPath(Path(folder).resolve()))]
            ways.append((path, PurePosixPath(Path(folder).absolute())))
        return next((file.relative_to(top) for file, top in ways if file.is_relative_to(top)), None)

    def samples(self, suites: Sequence[Suite] | None = None) -> int:
        """How many samples one pass through the suites asks, or through these."""
        lengths = [len(s.samples) for s in (self.suites if suites is None else suites)]
        return sum(length if self.limit is None else min(self.limit, length) for length in lengths)


def rubrics_of(suite: Suite, sample: Sample) -> tuple[str, ...]:
    """The rubrics by which a judge scores answers to the sample.

    Those that its suite names; of the probes of capability the one of that name; and where there is a ground truth, the one
    of content.
    """
    return rubrics_for(suite.name, suite.rubrics, sample)


def rubrics_for(suite: str, named: Sequence[str], sample: Sample) -> tuple[str, ...]:
    """The same of a suite by its name, and by the rubrics that it names."""
    found = [*named, *([suite] if suite == "capability" else [])]
    found += ["content"] if "ground_truth" in sample.reference else []
    return tuple(dict.fromkeys(found))


def rubrics_in(suites: Sequence[Suite]) -> list[str]:
    """All rubrics by which answers to the suites are judged."""
    return list(dict.fromkeys(name for suite in suites for s in suite.samples for name in rubrics_of(suite, s)))


def _check_rubrics(job: Job) -> None:
    rubrics = {name: load_rubric(name) for name in rubrics_in(job.suites)}
    for suite in job.suites:
        metrics = [m for name in suite.rubrics for m in rubrics[name].metrics]
        if len(set(metrics)) < len(metrics):
            raise SuiteError(f"{suite.path}: two of its rubrics have a dimension of one name; leave one of them out")
        if job.judge is None and suite.needs_judge:
            raise BadInput(f"{suite.path or suite.name}: only a judge can score its answers; name one with --judge")
    if job.judge is not None and not rubrics:
        names = ", ".join(suite.name for suite in job.suites)
        raise BadInput(
            f"there is nothing to judge: {names} have no rubrics; name some under rubrics: in a suite's file, ask the suite "
            "content or capability as well, or leave out --judge"
        )


def settings_of(job: Job) -> PlanConfig:
    """The plan's settings, with what the job's own fields say."""
    config = job.plan
    return PlanConfig(
        config.order,
        job.every if job.every is not None else config.every,
        config.filters,
        config.force,
        config.attempts,
        config.backoff_seconds,
        config.backoff_cap_seconds,
        patient=not job.once,
    )


async def check_job(
    job: Job, seen: Iterable[FileSeen] = (), copies: int = 0, note: Callable[[str], None] = lambda _: None
) -> Found:
    """What is there and chosen. Raises `BadInput` for all that can be seen without loading anything, and `Unreachable` for a
    folder or host that the journal knows and that is not there.

    seen: what the journal says of files. copies: how many checkpoints an earlier watch has copied, which may be gone.
    note: is told why nothing is chosen, where that is no error, since something may come.
    """
    for suite in job.suites:
        check_suite(suite)
    _check_rubrics(job)
    if job.base is not None:
        resolve(job.base)
    known = list(seen)
    discovery = job.discovery(known)
    try:
        found = await discovery.look()
    except (
        Absent
    ) as error:  # a disk or a network that is not up yet: a service manager starts again after a 3, not after a 2
        if not any(job.is_of(record) for record in known if isinstance(record, CheckpointSeen)):
            raise
        raise Unreachable(f"{error}; it was there before, so try again later") from error
    config = settings_of(job)
    chosen = [c for c in found.checkpoints if is_chosen(c, config)]
    refused = [r for r in found.refused if is_chosen(r.checkpoint, config)]
    if not chosen and not refused and not copies:
        there = [*found.checkpoints, *(r.checkpoint for r in found.refused)]
        if job.once:
            raise BadInput(_unchosen(job, there) if there else _empty(job, found.unlisted))
        note(_unchosen(job, there) if there else f"{shown(job.host.name, job.folder)} holds no checkpoint yet")
    if job.base is None and chosen and not any([await discovery.base_of(c) for c in chosen]):
        raise BadInput(
            "no base model: the checkpoints' configurations name none; name one with --base, or in assay.toml under [watch]"
        )
    return replace(found, checkpoints=chosen, refused=refused)


def _empty(job: Job, unlisted: Sequence[str]) -> str:
    return (
        f"{shown(job.host.name, job.folder)} holds no checkpoint (expected 0000100_adapters.safetensors, "
        "checkpoint-100/adapter_model.safetensors, a GGUF adapter and the like); name another folder, or leave out --once "
        f"to wait for one{f'; not looked into: {printable(unlisted[0])}' if unlisted else ''}"
    )


def _unchosen(job: Job, there: Sequence[Checkpoint]) -> str:
    """Which flag leaves out all that is there."""
    config = settings_of(job)
    none = f"none of the {len(there)} checkpoints in {shown(job.host.name, job.folder)}"
    filtered = f"fits --filter {' '.join(config.filters)}"
    if config.filters and not any(is_chosen(c, replace(config, every=None)) for c in there):
        return f"{none} {filtered}"
    if config.every is not None and not any(is_chosen(c, replace(config, filters=())) for c in there):
        return f"{none} is at a multiple of --every {config.every}"
    return f"{none} that {filtered} is at a multiple of --every {config.every}"
