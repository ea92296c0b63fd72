"""LoRA adapters from one form to another: mlx-lm's, PEFT's, and the GGUF file that llama.cpp reads.

What is written appears whole or not at all. What a form can't express is refused by name.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from assay.adapters.bases import Base, check_embeddings
from assay.adapters.carried import check_carried
from assay.adapters.dtypes import DTYPES, Dtype
from assay.adapters.files import CONFIG_NAME, WEIGHTS_NAME, read_lora
from assay.adapters.fit import BLOCK_OF, EMBEDDINGS, block_count, check_tensors
from assay.adapters.gguf_lora import read_gguf_adapter
from assay.adapters.gguf_writing import check_architecture, write_gguf
from assay.adapters.lora import Lora, lora_of
from assay.adapters.mlx_files import write_mlx
from assay.adapters.peft import carries, patterns, read_peft
from assay.adapters.peft_writing import write_peft
from assay.adapters.sources import Source
from assay.checkpoints.layouts import PEFT_WEIGHTS
from assay.errors import NO_ROOM, AdapterBroken, AdapterMismatch, BadInput, DiskFault, ModelError
from assay.types import Adapter, TensorSpec

Form: TypeAlias = Literal["peft", "gguf", "mlx"]
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written.

    former: the adapter's digest in the form that it had. same: it has the same in this one. dtypes: of its tensors. size: of
    all its files, in bytes.
    """

    path: Path
    form: Form
    former: str
    same: bool
    tensors: int
    dtypes: tuple[str, ...]
    size: int

    def digest(self) -> str:
        """The adapter's digest in this form. Reads the whole file back unless it is the same."""
        if self.same:
            return self.former
        if self.form == "gguf":
            return read_gguf_adapter(self.path).digest
        return _read_back(self.path, self.form).digest()


def mlx_to_gguf(adapter: Adapter, destination: Path, *, arch: str, heads: int, kv_heads: int) -> Path:
    """Write the adapter as a GGUF LoRA file in float32; return `destination`, which appears whole or not at all.

    arch, heads, kv_heads: the base's `general.architecture` and its counts of attention heads and key-value heads.
    One tensor is in memory at a time. Raises `AdapterMismatch` with every tensor that has no counterpart in GGUF,
    `AdapterBroken` if the file is damaged, `DiskFault` where there is no room, `ModelError` if the `gguf` package is missing.
    """
    check_architecture(arch)
    with _place(destination, adapter.weights) as temporary:
        write_gguf(lora_of(adapter), temporary, arch=arch, heads=heads, kv_heads=kv_heads)
        temporary.replace(destination)
    return destination


def convert(
    source: Source,
    destination: Path,
    form: Form,
    base: Base | None,
    dtype: Dtype | None = None,
    *,
    overwrite: bool = False,
) -> Converted:
    """Write the adapter in another form: a folder, or for GGUF one file. It is on the disk before it has its name.

    base: what it was trained on; GGUF, and adapted embeddings, need it. dtype: of the tensors; None keeps them, but that GGUF's
    are float32, in which llama.cpp computes alike. overwrite: a former output may be there. Raises `BadInput` for a destination
    that is taken, `AdapterMismatch` for what the form can't say or the base has not, and as `mlx_to_gguf` does.
    """
    _check_destination(destination, form, source.lora, overwrite=overwrite)
    lora = _checked(source.lora, form, base)
    kind = DTYPES[dtype] if dtype is not None else "F32" if form == "gguf" else None
    tensors = {name: TensorSpec(spec.shape, kind or spec.dtype) for name, spec in lora.tensors.items()}
    # The digest takes as long as the writing and the disk together: it is made beside them.
    with _place(destination, lora.weights) as temporary, ThreadPoolExecutor(1) as other:
        reading = other.submit(source.digest)
        try:
            files = _write(lora, temporary, form, base, tensors)
            size = _settled(files)
        except (OverflowError, AdapterBroken) as error:
            reading.result()  # of numbers that are none it knows more
            if isinstance(error, AdapterBroken):
                raise
            raise AdapterMismatch(f"{lora.shown}: its numbers don't fit into {dtype} ({error})") from None
        former = reading.result()
        same = form != "gguf" and tensors == lora.tensors and _alike(_read_back(temporary, form), lora)
        _put(temporary, destination)
    kinds = tuple(sorted({spec.dtype for spec in tensors.values()}))
    return Converted(destination, form, former, same, len(tensors), kinds, size)


def _checked(lora: Lora, form: Form, base: Base | None) -> Lora:
    """The adapter, once it is known that the form can say it and that it fits the base."""
    if form == "mlx" and lora.uniform is None:
        raise AdapterMismatch(
            f"{lora.shown}: uses {patterns(lora)}; mlx-lm's form has one rank and one scale for all modules"
        )
    embeddings = [module for module in lora.ranks if module.rpartition(".")[2] in EMBEDDINGS]
    if base is None:
        if lora.carried:
            raise BadInput(carries(lora))
        if form == "gguf" or embeddings:
            why = (
                f"it adapts the embedding ({embeddings[0]})"
                if embeddings
                else "a GGUF adapter is laid out for its base"
            )
            raise BadInput(f"{lora.shown}: {why}, so the base must be known; name it with --base")
        return lora
    check_carried(lora, base)
    check_embeddings(embeddings, tied=base.tied)
    check_tensors(lora.tensors, lora.ranks.__getitem__, lora.layers, base.shapes)
    return replace(lora, layers=_layers(lora, block_count(base.shapes)))


def _layers(lora: Lora, blocks: int) -> int:
    """Of modules that were named one by one: how many of the last blocks they are, 0 if they aren't whole blocks at the end."""
    found = [match for module in lora.ranks if (match := BLOCK_OF.fullmatch(module)) is not None]
    if lora.layers != 0 or not found:
        return lora.layers
    numbers = {int(match[2]) for match in found}
    whole = len({match[3] for match in found}) * len(numbers) == len(found)
    return len(numbers) if whole and numbers == set(range(blocks - len(numbers), blocks)) else 0


def _write(lora: Lora, place: Path, form: Form, base: Base | None, tensors: dict[str, TensorSpec]) -> list[Path]:
    """Write the files that the form has, the one with the tensors first."""
    if form == "gguf":
        assert base is not None, "checked before"
        if not base.heads:
            raise ModelError(f"{base.path} does not say how many attention heads it has; fetch or convert it again")
        dtype = next(iter(tensors.values())).dtype
        write_gguf(lora, place, arch=base.kind, heads=base.heads, kv_heads=base.kv_heads, dtype=dtype)
        return [place]
    place.mkdir()
    files = place / (WEIGHTS_NAME if form == "mlx" else PEFT_WEIGHTS), place / CONFIG_NAME
    (write_mlx if form == "mlx" else write_peft)(lora, *files, tensors, lora.base)
    return list(files)


def _alike(made: Lora, lora: Lora) -> bool:
    """Do the same numbers do the same in both?"""
    return (made.sizes, made.input_only) == (lora.sizes, lora.input_only)


def _read_back(folder: Path, form: Form) -> Lora:
    weights, config = folder / (WEIGHTS_NAME if form == "mlx" else PEFT_WEIGHTS), folder / CONFIG_NAME
    return read_lora(weights, config) if form == "mlx" else read_peft(weights, config, weights, config)


@contextmanager
def _place(destination: Path, source: Path) -> Iterator[Path]:
    """A free name beside the destination; what has it at the end goes. Faults of the disk are said as such."""
    place = destination.with_name(f".convert-{secrets.token_hex(6)}{destination.suffix}")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield place
        finally:
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            place.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in NO_ROOM or error.errno is None:  # numpy's error for what it could write only in part has none
            raise DiskFault(
                f"{source} could not be converted in {destination.parent} ({error.strerror or error}); what was "
                "earned is safe: make room there, or set TMPDIR, and run the same command again"
            ) from None
        if error.filename not in (None, str(source)):
            raise BadInput(f"{destination} can't be written ({error.strerror}); choose another place") from None
        raise AdapterBroken(
            f"{source}: can't be converted in {destination.parent}: {error.strerror or error}"
        ) from None


def _check_destination(destination: Path, form: Form, lora: Lora, *, overwrite: bool) -> None:
    """Raise `BadInput` unless the output may have this name: what is there is ours to replace, if it was asked for."""
    if form == "gguf" and destination.suffix != ".gguf":
        raise BadInput(f"{destination}: a GGUF adapter is one file; give it a name that ends in .gguf")
    if form != "gguf" and destination.suffix in (".gguf", ".safetensors"):
        raise BadInput(f"{destination}: an adapter of this form is a folder, not a file; name a folder")
    if not destination.exists():
        return
    if destination.is_dir() == (form == "gguf"):
        kind = "a folder" if destination.is_dir() else "a file"
        raise BadInput(f"{destination} is {kind}, which the output can't take the place of; choose another name")
    inside = {path.name for path in destination.iterdir()} if destination.is_dir() else set()
    if destination.is_dir() and not inside:
        return
    ours = {WEIGHTS_NAME if form == "mlx" else PEFT_WEIGHTS, CONFIG_NAME}
    if lora.weights.resolve().parent == destination.resolve() or lora.weights.resolve() == destination.resolve():
        raise BadInput(f"{destination} is where the adapter itself lies; choose another name")
    if others := sorted(inside - ours):
        raise BadInput(f"{destination} holds more than an adapter of this form ({others[0]}); choose another name")
    if not overwrite:
        raise BadInput(f"{destination} is there already; choose another name, or give --overwrite")


def _put(made: Path, destination: Path) -> None:
    """Give the output its name; a folder that it replaces goes then."""
    former = made.with_suffix(".former")
    if destination.is_dir():
        destination.rename(former)
    made.replace(destination)
    _sync(destination.parent)
    shutil.rmtree(former, ignore_errors=True)


def _settled(files: list[Path]) -> int:
    """The bytes of the files, once they and their names are on the disk."""
    for place in [*files, files[0].parent]:
        _sync(place)
    return sum(file.stat().st_size for file in files)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
