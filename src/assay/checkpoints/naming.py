"""What a checkpoint folder's name says: its run, its label, and go-ml's names for the model and the run.

go-ml knows a table of families: of a folder `adapters-NAME`, the first family whose prefix begins NAME gives the model's tag
and a short name for labels. Tables of go-ml's are written under these names, so that they go on where it left off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_PREFIX = "adapters-"

# Folder names that say what lies in them and not which run it is; the folder above names the run then.
_GENERIC = frozenset({"adapter", "adapters", "checkpoint", "checkpoints", "ckpt", "ckpts", "lora", "output", "outputs"})
_SHORT = 10  # characters of a name of no family in a label


@dataclass(frozen=True, slots=True)
class Family:
    """Adapters whose folder's name begins with `prefix` are of the model `tag`, and called `short` in labels."""

    prefix: str
    tag: str
    short: str


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
    folder = PurePosixPath(*(_printable(part) for part in folder.parts))
    parts = [part for part in folder.parts if part not in ("/", "")]
    for index in range(len(parts) - 1, max(-1, len(parts) - 3), -1):
        rest = parts[index].removeprefix(_PREFIX)
        if rest and rest != parts[index]:
            return _of_family("/".join([rest, *_own(parts[index + 1 :])]), families, labelled=True)
    return _of_family(run_name(folder), families, labelled=False)


def run_name(folder: PurePosixPath) -> str:
    """A run's name from its folder (absolute): the last part that says more than what lies in it."""
    for candidate in (folder, *folder.parents):
        if candidate.name and candidate.name.lower() not in _GENERIC:
            return candidate.name.removeprefix(_PREFIX) or candidate.name
    return "run"


def _printable(part: str) -> str:
    """A name that a table can show: a newline in it is escaped."""
    return part if part.isprintable() else part.encode("unicode_escape", "surrogatepass").decode()


def _own(parts: Sequence[str]) -> list[str]:
    return [part for part in parts if part.lower() not in _GENERIC]


def _of_family(rest: str, families: Sequence[Family], *, labelled: bool) -> Names:
    stem = rest.replace("/", "-")
    run_id = f"{stem}-capability-auto"
    for family in families:
        if rest.startswith(family.prefix):
            variant = rest[len(family.prefix) :].lstrip("-").replace("/", "-") or "base"
            prefix = family.short if variant == "base" else f"{family.short}-{variant}"
            return Names(stem, prefix if labelled else "", family.tag, run_id)
    return Names(stem, rest[:_SHORT] if labelled else "", rest, run_id)
