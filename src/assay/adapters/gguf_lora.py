"""A LoRA adapter as a GGUF file, as llama.cpp's `convert_lora_to_gguf.py` writes it: read strictly, and left as it is.

Its tensors keep the names and shapes that GGUF gives them: `blk.0.attn_q.weight.lora_a` is (rank, in), `…lora_b` (out, rank).
What is scaled by, the file says itself (`adapter.lora.alpha`), so it needs no configuration beside it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from assay.adapters.gguf_header import Cursor, GgufTensor
from assay.adapters.tensor_digest import TensorDigest
from assay.errors import AdapterBroken, ModelError, NotReady
from assay.types import Adapter, TensorSpec

GGUF_NAME = "adapter.gguf"
HEAD = 1 << 16  # bytes that tell what kind of file it is: writers put the type before all that is long
_HEAD_LIMIT = 100_000_000  # bytes of a header
_BLOCK = 1 << 20  # bytes read at a time, so that memory stays bounded
_SHORT = (struct.error, ValueError, IndexError)  # what a cursor raises where its bytes end too soon
_ALPHA = "adapter.lora.alpha"
_ACTIVATED = "adapter.alora.invocation_tokens"
# ggml's types that adapters are written in, by number: the name, elements a block, and its bytes.
_TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 8: ("Q8_0", 32, 34), 28: ("F64", 1, 8), 30: ("BF16", 1, 2)}

_Values = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class GgufLora:
    """What the header of a whole GGUF adapter tells. spans: where each tensor's bytes lie (start, end) in the file."""

    architecture: str
    alpha: float
    tensors: Mapping[str, TensorSpec]
    spans: Mapping[str, tuple[int, int]]

    @property
    def rank(self) -> int:
        """The highest; llama.cpp scales each pair by its own."""
        return max(spec.shape[-1] for name, spec in self.tensors.items() if name.endswith(".lora_b"))


def kind_of(head: bytes) -> str | None:
    """What a file of which these are the first bytes says it is (`adapter`, `model`, …); None where it is too short to tell.

    "" is for what says nothing: another format, or a model as they were written before there were types.
    """
    if head[:4] != b"GGUF"[: len(head)]:
        return ""
    if len(head) < 4:
        return None
    values: dict[str, str | int | float | bool] = {}
    try:
        cursor = Cursor(head, PurePath())
        cursor.begin()
        cursor.metadata(values, {})
    except _SHORT:
        if "general.type" not in values and len(head) < HEAD:
            return None
    except ModelError:
        return ""
    return str(values.get("general.type", ""))


def lora_of(head: bytes, size: int, path: PurePath) -> GgufLora | None:
    """What the first bytes of a file of this size tell; None if its header is longer. `path` is only what errors call it.

    Raises `NotReady` where the file is shorter than its header says, `AdapterBroken` if it is no LoRA adapter.
    """
    values: dict[str, str | int | float | bool] = {}
    lengths: dict[str, int] = {}
    try:
        if len(head) < 4:
            raise ValueError("not even its first word")
        cursor = Cursor(head, path)
        count = cursor.begin()
        cursor.metadata(values, lengths)
        infos = cursor.tensors(count)
    except ModelError as error:
        raise AdapterBroken(f"{path}: not a GGUF file that can be read; convert the adapter again") from error
    except _SHORT:
        if len(head) >= size:
            raise NotReady(f"{path}: cut off inside its header ({size} bytes); it may still be being written") from None
        if len(head) >= _HEAD_LIMIT:
            raise AdapterBroken(f"{path}: no GGUF adapter: its header has no end; convert it again") from None
        return None
    alpha = _alpha(values, lengths, path)
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1:
        raise AdapterBroken(f"{path}: general.alignment must be a positive whole number, not {alignment!r}")
    tensors, spans = _lay_out(infos, -(-cursor.at // alignment) * alignment, path)
    _check_pairs(tensors, path)
    end = max(stop for _, stop in spans.values())
    if size < end:
        raise NotReady(f"{path}: {size} of {end} bytes so far; it may still be being written")
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise AdapterBroken(
            f"{path}: does not say for which architecture it is (general.architecture); convert it again"
        )
    return GgufLora(architecture, alpha, tensors, spans)


def read_gguf_adapter(path: Path, shown: PurePath | None = None) -> Adapter:
    """Read a GGUF adapter and check that it is whole. shown: what errors call it, if not its path. Raises as `lora_of`."""
    named = shown or path
    try:
        with path.open("rb") as file:
            lora = _read_header(file, named)
            digest = _digest(file, lora, named)
    except FileNotFoundError:
        raise NotReady(f"{named}: the file is not there (yet)") from None
    except OSError as error:
        raise AdapterBroken(f"{named}: the file can't be read ({error.strerror or error})") from None
    scale = lora.alpha / lora.rank if lora.alpha else 1.0  # llama.cpp scales by 1 where alpha is 0
    return Adapter(digest, path, lora.rank, scale, -1, dict(lora.tensors), lora.architecture)


def _read_header(file: BinaryIO, path: PurePath) -> GgufLora:
    size = file.seek(0, 2)
    length = HEAD
    while True:
        file.seek(0)
        head = file.read(length)
        lora = lora_of(head, size, path)
        if lora is not None:
            return lora
        if len(head) < length:
            raise NotReady(f"{path}: became shorter while it was read; it may still be being written")
        length *= 4


def _alpha(values: _Values, lengths: Mapping[str, int], path: PurePath) -> float:
    kind, form = values.get("general.type"), values.get("adapter.type")
    if kind != "adapter":
        raise AdapterBroken(f"{path}: a GGUF {kind or 'model'}, not an adapter; name a LoRA adapter")
    if form != "lora":
        raise AdapterBroken(f"{path}: a GGUF adapter of the type {form!r}; only LoRA adapters can be evaluated")
    if _ACTIVATED in lengths:
        raise AdapterBroken(f"{path}: an activated LoRA (aLoRA), which can't be evaluated; only plain LoRA can")
    alpha = values.get(_ALPHA, 0.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise AdapterBroken(f"{path}: {_ALPHA} must be a number, not {alpha!r}")
    return float(alpha)


def _lay_out(
    infos: Mapping[str, GgufTensor], start: int, path: PurePath
) -> tuple[dict[str, TensorSpec], dict[str, tuple[int, int]]]:
    """Each tensor's type and shape, and where its bytes lie."""
    tensors: dict[str, TensorSpec] = {}
    spans: dict[str, tuple[int, int]] = {}
    for name, info in infos.items():
        if info.kind not in _TYPES:
            known = ", ".join(kind for kind, _, _ in _TYPES.values())
            raise AdapterBroken(f"{path}: {name} is of ggml's type {info.kind}, not one of {known}; convert it again")
        kind, elements, size = _TYPES[info.kind]
        if len(info.shape) not in (2, 3) or info.shape[-1] % elements:
            raise AdapterBroken(f"{path}: {name} of type {kind} has the impossible shape {info.shape}")
        tensors[name] = TensorSpec(info.shape, kind)
        spans[name] = start + info.offset, start + info.offset + math.prod(info.shape) // elements * size
    end = start
    for name, (first, last) in sorted(spans.items(), key=lambda item: item[1]):
        if first < end:
            raise AdapterBroken(f"{path}: the data of {name} overlaps that of another tensor; convert it again")
        end = last
    return tensors, spans


def _check_pairs(tensors: Mapping[str, TensorSpec], path: PurePath) -> None:
    """Raise `AdapterBroken` unless these are pairs of lora_a and lora_b, each of one rank."""
    problems: list[str] = [] if tensors else ["it holds no tensors"]
    for name, spec in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf not in ("lora_a", "lora_b"):
            problems.append(f"{name} is neither lora_a nor lora_b")
            continue
        other = f"{module}.{'lora_b' if leaf == 'lora_a' else 'lora_a'}"
        if other not in tensors:
            problems.append(f"{other} is missing")
        elif leaf == "lora_a" and not _is_pair(module, spec.shape, tensors[other].shape):
            problems.append(f"{name} of shape {spec.shape} and {other} of {tensors[other].shape} have not one rank")
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise AdapterBroken(f"{path}: not a LoRA adapter as llama.cpp reads it: {'; '.join(problems[:3])}{more}")


def _is_pair(weight: str, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    rank = a[-1] if weight == "token_embd.weight" else a[-2]  # an embedding's is looked up by rows
    return len(a) == len(b) and a[:-2] == b[:-2] and rank == b[-1]


def _digest(file: BinaryIO, lora: GgufLora, path: PurePath) -> str:
    digest = TensorDigest(path)
    for name in sorted(lora.tensors):
        start, end = lora.spans[name]
        digest.begin(name, lora.tensors[name])
        file.seek(start)
        while start < end:
            block = file.read(min(_BLOCK, end - start))
            if not block:
                raise NotReady(f"{path}: became shorter while it was read; it may still be being written")
            digest.add(memoryview(block))
            start += len(block)
    return digest.end({"alpha": lora.alpha, "architecture": lora.architecture})
