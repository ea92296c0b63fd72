"""Small real things that tests make: adapters as mlx-lm writes them, suites, scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import save_file

from assay.adapters.files import stage
from assay.checkpoints.discover import Discovery
from assay.hosts.local import LocalHost
from assay.types import Adapter, Checkpoint

T = TypeVar("T")

CONFIG = {
    "fine_tune_type": "lora",
    "num_layers": 2,
    "iters": 30,
    "lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.0},
}


def adapter_file(path: Path, seed: int, *, zeros: bool = False, hidden: int = 16) -> Path:
    """A LoRA over two layers' q_proj, with its `adapter_config.json` beside it."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in (0, 1):
        name = f"model.layers.{layer}.self_attn.q_proj"
        a, b = random.normal(size=(hidden, 4)), random.normal(size=(4, hidden))
        tensors[f"{name}.lora_a"] = a.astype(np.float32)
        tensors[f"{name}.lora_b"] = (b * (not zeros)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    (path.parent / "adapter_config.json").write_text(json.dumps(CONFIG))
    return path


def checkpoints(folder: Path, iterations: tuple[int, ...] = (10, 20, 30)) -> Path:
    """A folder of checkpoints as `mlx_lm.lora` leaves it: numbered ones, and the last one again without a number."""
    for iteration in iterations:
        last = adapter_file(folder / f"{iteration:07d}_adapters.safetensors", iteration)
        (folder / "adapters.safetensors").write_bytes(last.read_bytes())
    return folder


SUITE = """\
name: small
version: 1
options: {temperature: 0, max_tokens: 8}
scorer: contains_word
goal: {improve: [new], keep: [old]}
samples:
  - {id: a, group: new, prompt: Question a, target: right}
  - {id: b, group: new, prompt: Question b, target: right}
  - {id: c, group: old, prompt: Question c, target: right}
  - {id: d, group: old, prompt: Question d, target: right}
"""

SCRIPT = """\
answers:
  - {prompt: Question a, answer: wrong, adapter: base}
  - {prompt: Question a, answer: right}
  - {prompt: Question c, answer: right}
  - {prompt: Question d, answer: right}
default: I am {adapter}
"""


def written(path: Path, text: str) -> Path:
    """The path, after writing the text there."""
    path.write_text(text, encoding="utf-8")
    return path


def discovered(folder: Path, run: str | None = "r") -> list[Checkpoint]:
    """The checkpoints that one look at a folder of this machine finds."""
    return _outside(Discovery(LocalHost(), PurePosixPath(folder), run).look()).checkpoints


def copied(checkpoint: Checkpoint, folder: Path) -> Adapter:
    """A checkpoint of this machine, copied to `folder` and read."""
    return _outside(stage(LocalHost(), checkpoint, folder))


def _outside(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also where an event loop runs already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
