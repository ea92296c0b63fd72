"""The files that trainers leave, from a folder's listing alone: no content is read.

- `mlx_lm.lora`: `0000100_adapters.safetensors` beside one `adapter_config.json`, and `adapters.safetensors`, the last one
  written;
- PEFT (transformers, TRL, Axolotl, Unsloth, LLaMA-Factory): `checkpoint-100/adapter_model.safetensors` with an
  `adapter_config.json` of its own, and the finished adapter in the folder above.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from assay.checkpoints.curves import STATE
from assay.hosts.base import Entry
from assay.types import Layout

CONFIG = "adapter_config.json"
_MLX_NUMBERED = re.compile(r"(\d+)_adapters\.safetensors")
_MLX_LATEST = "adapters.safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
_PEFT_PICKLED = "adapter_model.bin"
_PEFT_FOLDER = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Written:
    """An adapter file as it lies there. run_folder: what names its run. number: the iteration as written, "" where none is.

    pickled: it is in a format that is never read, since loading it runs code.
    """

    run_folder: PurePosixPath
    number: str
    weights: Entry
    config: Entry | None
    config_path: PurePosixPath
    layout: Layout
    pickled: bool = False


def written_in(folder: PurePosixPath, entries: Sequence[Entry]) -> list[Written]:
    """The adapter files that lie directly in a folder, which has these entries."""
    files = {entry.path.name: entry for entry in entries if entry.kind == "file"}
    config = files.get(CONFIG)
    found: list[Written] = []
    for name, entry in files.items():
        match = _MLX_NUMBERED.fullmatch(name)
        if match is not None or name == _MLX_LATEST:
            number = match[1] if match is not None else ""
            found.append(Written(folder, number, entry, config, folder / CONFIG, "mlx"))
    peft = _peft(folder, files, config)
    return [*found, peft] if peft is not None else found


def linked(link: Entry) -> Written:
    """The checkpoint or run that a link to a folder stands for, by its name alone."""
    run_folder, number = _of_peft(link.path)
    return Written(run_folder, number, link, None, link.path / CONFIG, "peft")


def run_folder_of(file: PurePosixPath) -> PurePosixPath:
    """What names the run of a checkpoint's file, or of a log."""
    return _of_peft(file.parent)[0] if file.name in (PEFT_WEIGHTS, _PEFT_PICKLED, STATE) else file.parent


def _peft(folder: PurePosixPath, files: Mapping[str, Entry], config: Entry | None) -> Written | None:
    weights, pickled = files.get(PEFT_WEIGHTS), False
    if weights is None and config is not None:
        weights, pickled = files.get(_PEFT_PICKLED), True
    if weights is None:
        return None
    return Written(*_of_peft(folder), weights, config, folder / CONFIG, "peft", pickled)


def _of_peft(folder: PurePosixPath) -> tuple[PurePosixPath, str]:
    """The run's folder, and the iteration as written."""
    numbered = _PEFT_FOLDER.fullmatch(folder.name)
    return (folder.parent, numbered[1]) if numbered is not None else (folder, "")
