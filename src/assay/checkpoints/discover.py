"""Which checkpoints a folder holds, from the names that `mlx_lm.lora` writes: `0000100_adapters.safetensors` beside one
`adapter_config.json`, and `adapters.safetensors`, which is the last one written, often again.
"""

from __future__ import annotations

import filecmp
import json
import re
from collections.abc import Sequence
from pathlib import Path

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
    latest = [c for c in found if c.iteration < 0]
    last = max((c.iteration for c in numbered), default=0)
    return numbered + [_numbered(c, max(last, _iterations(folder))) for c in latest if not _repeats(c, numbered)]


def _repeats(latest: Checkpoint, numbered: Sequence[Checkpoint]) -> bool:
    """Whether the unnumbered file holds the very bytes of a numbered one. `filecmp` remembers files that did not change."""
    twins = [c for c in reversed(numbered) if c.size == latest.size]
    try:
        return any(filecmp.cmp(latest.weights, c.weights, shallow=False) for c in twins)
    except OSError:  # one of them has just been deleted or is being replaced; the next round sees clearly
        return False


def _numbered(checkpoint: Checkpoint, iteration: int) -> Checkpoint:
    c = checkpoint
    return Checkpoint(c.run, iteration, c.weights, c.config, c.size, c.modified_ns)


def _iterations(folder: Path) -> int:
    try:
        iters = json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get("iters")
    except (OSError, ValueError, AttributeError):
        return 0
    return iters if isinstance(iters, int) and not isinstance(iters, bool) else 0
