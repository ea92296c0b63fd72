"""What a checkpoint folder's name says: its run, its label, and go-ml's names for the model and the run.

go-ml knows a table of families: of a folder `adapters-NAME`, the first family whose prefix begins NAME gives the model's tag
and a short name for labels. Tables of go-ml's are written under these names, so that they go on where it left off.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

_PREFIX = "adapters-"

# Folder names that say what lies in them and not which run it is; the folder above names the run then.
_GENERIC = frozenset({"adapter", "adapters", "checkpoint", "checkpoints", "ckpt", "ckpts", "lora", "output", "outputs"})
_SHORT = 10  # characters of a name of no family in a label


@dataclass(frozen=True, slots=True)
class Family:
    """Adapters whose folder's name begins with `prefix` are of the model `tag`, and called `short` in labels.

    pattern: a regular expression for the end of a folder's path, in place of a prefix; its groups `run`, `tag` and `label` go
    before `tag` and `short`, each of which may be "" then: the name is what it is without the family.
    """

    prefix: str
    tag: str
    short: str
    pattern: str = ""


# In go-ml's order: the first that fits counts.
FAMILIES = tuple(
    Family(*line.split())
    for line in """\
deepseek-r1-7b deepseek-r1-7b R1
27b- gemma-3-27b G27
27b gemma-3-27b G27
15k/gemma-3-27b gemma-3-27b G27
15k/gemma-3-12b gemma-3-12b G12
15k/gemma-3-1b gemma-3-1b G1
12b gemma-3-12b G12
1b- gemma-3-1b G1
1b gemma-3-1b G1
4b gemma-3-4b G4
vi-12b gemma-3-12b Vi12
vi gemma-3-1b Vi1
gpt-oss gpt-oss-20b GPT
lem-gpt-oss gpt-oss-20b LGPT
bench-1b gemma-3-1b B1
book gemma-3-27b Book
cross gemma-3-12b Cross
""".splitlines()
)


@dataclass(frozen=True, slots=True)
class Names:
    """A folder's names. prefix: of labels, "" where the run itself begins them. tag, run_id: go-ml's for model and run."""

    run: str
    prefix: str
    tag: str
    run_id: str

    def label(self, iteration: str) -> str:
        """A checkpoint's label, given its iteration as it is written; "" where the run and the number make it."""
        return f"{self.prefix} @{iteration}" if self.prefix else ""


def names_of(folder: PurePosixPath, families: Sequence[Family] = FAMILIES) -> Names:
    """What the name of a folder (absolute) that holds checkpoints says.

    `lab/checkpoints` is the run `lab`. `adapters-vi-12b` is `vi-12b`, with labels of the family `Vi12`; a folder `gemma-3-1b`
    within `adapters-15k` is `15k-gemma-3-1b`.
    """
    folder = printable(folder)
    index = _adapters(folder)
    names = _of_run(run_name(folder)) if index is None else _of_adapters(folder.parts[index:], families)
    return _by_pattern(names, folder, families)


def names_below(top: PurePosixPath, folder: PurePosixPath, families: Sequence[Family] = FAMILIES) -> Names:
    """The names of a folder in a watched one (both absolute): they are the same whichever folders lie beside it.

    It is called by its path below `top`, so `top/a/x` is the run `a/x`; `top/a/adapters-12b` is `a/12b`.
    """
    top, folder = printable(top), printable(folder)
    below = own_end(folder.relative_to(top).parts)
    if not below:
        return names_of(top, families)
    index = _adapters(folder)
    if index is None:
        return _by_pattern(_of_run("/".join(below)), folder, families)
    names = _of_adapters(folder.parts[index:], families)
    above = "/".join(folder.parts[len(top.parts) : index])
    return _by_pattern(called(names, f"{above}/{names.run}") if above else names, folder, families)


def names_in_full(top: PurePosixPath, folder: PurePosixPath, families: Sequence[Family] = FAMILIES) -> Names:
    """The names of a folder in a watched one where another one has those of `names_below`: with the whole path."""
    top, folder = printable(top), printable(folder)
    names = names_below(top, folder, families)
    relative = folder.relative_to(top)
    prefix = f"{names.prefix} {relative}" if names.prefix and relative.parts else names.prefix
    return replace(called(names, "/".join((run_name(top), *relative.parts))), prefix=prefix)


def run_name(folder: PurePosixPath) -> str:
    """A run's name from its folder (absolute): the last part that says more than what lies in it."""
    for candidate in (folder, *folder.parents):
        if candidate.name and candidate.name.lower() not in _GENERIC:
            return candidate.name.removeprefix(_PREFIX) or candidate.name
    return "run"


def printable(folder: PurePosixPath) -> PurePosixPath:
    """A path that a table can show: a newline in a name is escaped, and so is a byte that is no UTF-8."""
    return PurePosixPath(
        *(p if p.isprintable() else p.encode("unicode_escape", "surrogatepass").decode() for p in folder.parts)
    )


def _adapters(folder: PurePosixPath) -> int | None:
    """Which of the folder's last two parts is `adapters-NAME`, the later one if both are."""
    parts = folder.parts
    for index in range(len(parts) - 1, max(-1, len(parts) - 3), -1):
        if parts[index].removeprefix(_PREFIX) not in ("", parts[index]):
            return index
    return None


def own_end(parts: Sequence[str]) -> Sequence[str]:
    """Without the names at the end that only say what lies there."""
    while parts and parts[-1].lower() in _GENERIC:
        parts = parts[:-1]
    return parts


def _of_run(run: str) -> Names:
    return called(Names(run, "", run, ""), run)


def called(names: Names, run: str) -> Names:
    """The names under another run's name, of which go-ml's is made: no two runs share that one."""
    return replace(names, run=run, run_id=f"{run}-capability-auto")


def _by_pattern(names: Names, folder: PurePosixPath, families: Sequence[Family]) -> Names:
    """The names, but for what the first family says whose pattern the end of the path fits, from a "/" on."""
    path = "/".join(own_end(folder.parts[1:]))
    for family in families:
        if family.pattern and (found := re.search(f"(?:^|/)(?:{family.pattern})$", path)):
            said = {name: text for name, text in found.groupdict().items() if text}
            own = called(names, said.get("run", names.run))
            tag = said.get("tag", family.tag) or (own.run if names.tag == names.run else names.tag)
            return replace(own, tag=tag, prefix=said.get("label", family.short) or names.prefix)
    return names


def _of_adapters(parts: Sequence[str], families: Sequence[Family]) -> Names:
    """go-ml's names of `adapters-NAME`, and of a folder in it."""
    inner = [part for part in parts[1:] if part.lower() not in _GENERIC]
    rest = "/".join([parts[0].removeprefix(_PREFIX), *inner])
    stem = rest.replace("/", "-")
    for family in families:
        if not family.pattern and rest.startswith(family.prefix):
            variant = rest[len(family.prefix) :].lstrip("-/").replace("/", "-") or "base"
            prefix = family.short if variant == "base" else f"{family.short}-{variant}"
            return called(Names(stem, prefix, family.tag, ""), stem)
    return called(Names(stem, rest[:_SHORT], rest, ""), stem)
