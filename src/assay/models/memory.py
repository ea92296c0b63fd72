"""How much memory a model may take here, and the refusal of one that takes more, before anything of it is loaded.

`EngineSettings.memory_limit` stands for what is measured: a user who knows better says so.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from assay.adapters.header import read_header
from assay.errors import ModelError

# What counts against a control group's limit and is given back when there is need, by the version of the interface.
_GIVEN_BACK = ("inactive_file", "total_inactive_file")
_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def check_room(path: Path, needs: int, room: int | None, limit: int | None, where: str, instead: str) -> None:
    """Raise `ModelError` with both sizes where the model needs more than there is. room: None where that can't be told.

    limit: the user's, which goes before `room`. where: what has the room ("this machine has", or "this machine now has free").
    instead: what else to do.
    """
    if limit is not None and needs > limit:
        raise ModelError(
            f"{path} takes {_size(needs, limit)} of memory, and memory_limit is {_size(limit, needs)}; {instead}, or raise it"
        )
    if limit is None and room is not None and needs > room:
        raise ModelError(f"{path} takes {_size(needs, room)} of memory, and {where} {_size(room, needs)}; {instead}")


def stored_bytes(files: Iterable[Path], each: int | None = None) -> int:
    """What the tensors of safetensors files take: as they are stored, or with so many bytes for each number."""
    if each is None:
        return sum(file.stat().st_size for file in files)
    return sum(math.prod(spec.shape) * each for file in files for spec in read_header(file).values())


def free_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """What can still be taken without swapping; caches that are given back count. None where the system doesn't tell."""
    try:
        text = (proc / "meminfo").read_text(encoding="ascii")
    except OSError:
        return total_memory(proc, groups)
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    free = [int(found[1]) * 1024] if found is not None else []
    free += [max(0, limit - _held(folder)) for folder, limit in _limits(proc, groups)]
    return min(free, default=None)


def total_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """All memory of this machine, or of the container if that may take less."""
    bounds = [limit for _, limit in _limits(proc, groups)]
    with contextlib.suppress(AttributeError, OSError, ValueError):
        bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(bounds, default=None)


def _limits(proc: Path, groups: Path) -> Iterator[tuple[Path, int]]:
    """The control groups of this process that bound its memory, each with its limit."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, name = (groups, "memory.max") if not controllers else (groups / "memory", "memory.limit_in_bytes")
        inner = top / place.lstrip("/")
        for folder in (inner, *(each for each in inner.parents if each.is_relative_to(top))):
            limit = _number(folder / name)
            if limit is not None and limit < 1 << 60:  # the first version's word for none is a number near 2⁶³
                yield folder, limit


def _held(folder: Path) -> int:
    """What the group's processes hold for good."""
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return used
    return max(0, used - max(int(stat.get(name, 0)) for name in _GIVEN_BACK))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # none such, or "max"
        return None


def _size(number: int, beside: int) -> str:
    """In gigabytes, to a tenth; both of a pair in bytes where that would hide the difference."""
    if f"{number / 1e9:.1f}" == f"{beside / 1e9:.1f}" or min(number, beside) < 100_000_000:
        return f"{number:,} bytes"
    return f"{number / 1e9:.1f} GB"
