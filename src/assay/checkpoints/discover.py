"""Which checkpoints a folder holds, from the names that `mlx_lm.lora` writes: `0000100_adapters.safetensors` beside one
`adapter_config.json`, and `adapters.safetensors`, which is the last one written, often again.
"""

from __future__ import annotations

import filecmp
import json
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from assay.errors import BadInput
from assay.types import Checkpoint

_NUMBERED = re.compile(r"(\d+)_adapters\.safetensors")
_LATEST = "adapters.safetensors"
_CONFIG = "adapter_config.json"

# Folder names that say what lies in them and not which run it is; the folder above names the run then.
_GENERIC = frozenset({"adapter", "adapters", "checkpoint", "checkpoints", "ckpt", "ckpts", "lora", "output", "outputs"})


def run_name(folder: Path) -> str:
    """A run's name from its folder: `lab/checkpoints` → `lab`, `adapters-vi-12b` → `vi-12b`."""
    resolved = folder.resolve()
    for candidate in (resolved, *resolved.parents):
        if candidate.name and candidate.name.lower() not in _GENERIC:
            return candidate.name.removeprefix("adapters-") or candidate.name
    return "run"


def discover(folder: Path, run: str) -> list[Checkpoint]:
    """The checkpoint files in `folder` as they are now, by iteration; the unnumbered one last.

    An unnumbered file that equals a numbered one is that checkpoint, and left out; else its iteration is the one
    that its configuration says the training goes to. Raises `BadInput` if there is no such folder or it can't be read.
    """
    try:
        names = [entry for entry in folder.iterdir() if entry.is_file()]
    except NotADirectoryError as error:
        raise BadInput(f"{folder} is a file; name the folder that the trainer writes its checkpoints into") from error
    except FileNotFoundError as error:
        raise BadInput(
            f"there is no folder {folder}; name the one that the trainer writes its checkpoints into"
        ) from error
    except OSError as error:
        raise BadInput(f"the folder {folder} cannot be read: {error.strerror}") from error
    found: list[Checkpoint] = []
    for path in names:
        match = _NUMBERED.fullmatch(path.name)
        if match is None and path.name != _LATEST:
            continue
        try:
            stat = path.stat()
        except FileNotFoundError:  # the trainer deleted it between the listing and now
            continue
        iteration = int(match[1]) if match is not None else -1
        found.append(Checkpoint(run, iteration, path, folder / _CONFIG, stat.st_size, stat.st_mtime_ns))
    numbered = sorted((c for c in found if c.iteration >= 0), key=lambda c: c.iteration)
    last = max((c.iteration for c in numbered), default=0)
    own = [c for c in found if c.iteration < 0 and _is_own(folder, last) and not _repeats(c, numbered)]
    return numbered + [replace(c, iteration=max(last, _setting(folder, "iters"))) for c in own]


def _is_own(folder: Path, last: int) -> bool:
    """Whether the unnumbered file can be a checkpoint that no numbered file is or will be.

    The trainer writes it first and the numbered one after it, at each multiple of `save_every`; only what it writes at the very
    end, between two multiples, stays unnumbered. A folder that holds nothing else was copied from somewhere, or has just
    begun: then the numbered one is still to come.
    """
    iterations, every = _setting(folder, "iters"), _setting(folder, "save_every")
    if not iterations or not every:
        return True
    final = iterations - iterations % every
    return last == 0 if iterations == final else last >= final


def _repeats(latest: Checkpoint, numbered: Sequence[Checkpoint]) -> bool:
    """Whether the unnumbered file holds the very bytes of a numbered one. `filecmp` remembers files that did not change."""
    twins = [c for c in reversed(numbered) if c.size == latest.size]
    try:
        return any(filecmp.cmp(latest.weights, c.weights, shallow=False) for c in twins)
    except OSError:  # one of them has just been deleted or is being replaced; the next round sees clearly
        return False


def _setting(folder: Path, name: str) -> int:
    """A whole number from the trainer's configuration; 0 if it isn't there."""
    try:
        value = json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return 0
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
