"""The files that trainers leave, from a folder's listing alone: no content is read.

- `mlx_lm.lora`: `0000100_adapters.safetensors` beside one `adapter_config.json`, and `adapters.safetensors`, the last one
  written;
- PEFT (transformers, TRL, Axolotl, Unsloth, LLaMA-Factory): `checkpoint-100/adapter_model.safetensors` with an
  `adapter_config.json` of its own, and the finished adapter in the folder above;
- GGUF files of any name: the number is that of the folder `checkpoint-100`, or of the file, `lora-100-f16.gguf`. Whether one
  is an adapter at all, its content tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from assay.checkpoints.curves import STATE
from assay.hosts.base import Entry
from assay.types import Layout

CONFIG = "adapter_config.json"
_MLX_NUMBERED = re.compile(r"(\d+)_adapters\.safetensors")
_MLX_LATEST = "adapters.safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
_PICKLED_ADAPTER = re.compile(r"(?:\d+_)?(?:adapters?|lora|pytorch_lora_weights)[\w.-]*\.(?:bin|pt|pth|ckpt)")
_PICKLED_MODEL = re.compile(r"pytorch_model[\w.-]*\.bin")
_MODEL = re.compile(r"model(?:-\d+-of-\d+)?\.safetensors")
_GGUF = ".gguf"
# `0000100_adapters`, and what llama.cpp's own tools and people write: the last word for a checkpoint that has a number.
_GGUF_NUMBERED = re.compile(
    r"(?:(\d+)[-_.]adapters?|.*(?<![a-z])(?:checkpoint|ckpt|adapters?|lora|step|iter(?:ation)?)[-_.]?(\d+))(?![0-9a-z]).*",
    re.IGNORECASE,
)
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
    if PEFT_WEIGHTS in files:
        found.append(Written(*_of_peft(folder), files[PEFT_WEIGHTS], config, folder / CONFIG, "peft"))
    found += [_of_gguf(folder, e) for n, e in files.items() if is_gguf(e.path) and not n.startswith(".")]
    return found if any(each.layout != "gguf" for each in found) else [*found, *_pickled(folder, files, config)]


def is_whole_model(folder: PurePosixPath, entries: Sequence[Entry]) -> bool:
    """Whether a trainer's checkpoint is the weights of a model, not of an adapter."""
    names = [entry.path.name for entry in entries if entry.kind == "file"]
    return bool(_of_peft(folder)[1]) and PEFT_WEIGHTS not in names and any(map(_MODEL.fullmatch, names))


def is_gguf(file: PurePath) -> bool:
    """Whether a file is GGUF by its name."""
    return file.name.lower().endswith(_GGUF)


def _of_gguf(folder: PurePosixPath, file: Entry) -> Written:
    return Written(_of_peft(folder)[0], _gguf_number(file.path), file, None, file.path, "gguf")


def _gguf_number(file: PurePosixPath) -> str:
    number = _of_peft(file.parent)[1]
    if not number and (named := _GGUF_NUMBERED.fullmatch(file.name[: -len(_GGUF)])) is not None:
        number = named[1] or named[2]
    return number


def linked(link: Entry) -> Written:
    """The checkpoint or run that a link to a folder stands for, by its name alone."""
    run_folder, number = _of_peft(link.path)
    return Written(run_folder, number, link, None, link.path / CONFIG, "peft")


def run_folder_of(file: PurePosixPath) -> PurePosixPath:
    """What names the run of a checkpoint's file, or of a log."""
    of_folder = file.name in (PEFT_WEIGHTS, STATE) or is_gguf(file) or _PICKLED_ADAPTER.fullmatch(file.name) is not None
    return _of_peft(file.parent)[0] if of_folder else file.parent


def place_of_file(file: PurePosixPath) -> tuple[PurePosixPath, str]:
    """What names the run of a checkpoint's safetensors file that is named alone, and its iteration as written, or ""."""
    if (numbered := _MLX_NUMBERED.fullmatch(file.name)) is not None:
        return file.parent, numbered[1]
    return _of_peft(file.parent) if file.suffix == ".safetensors" else (file, "")


def is_numbered(file: PurePosixPath) -> bool:
    """Whether the path of a checkpoint's file says which iteration it is of, and not only that it is the last one."""
    if is_gguf(file):
        return bool(_gguf_number(file))
    return file.name != _MLX_LATEST and (file.name != PEFT_WEIGHTS or bool(_of_peft(file.parent)[1]))


def _pickled(folder: PurePosixPath, files: Mapping[str, Entry], config: Entry | None) -> list[Written]:
    """The weights that a folder holds in pickled form and in no other; of several files, the first."""
    run_folder, number = _of_peft(folder)
    for name, entry in sorted(files.items()):
        if _PICKLED_ADAPTER.fullmatch(name) or (number and _PICKLED_MODEL.fullmatch(name)):
            return [Written(run_folder, number, entry, config, folder / CONFIG, "peft", pickled=True)]
    return []


def _of_peft(folder: PurePosixPath) -> tuple[PurePosixPath, str]:
    """The run's folder, and the iteration as written."""
    numbered = _PEFT_FOLDER.fullmatch(folder.name)
    return (folder.parent, numbered[1]) if numbered is not None else (folder, "")
