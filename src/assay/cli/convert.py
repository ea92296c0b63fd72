"""`assay convert`: an adapter from one engine's form to another's."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from assay.adapters.bases import Base, read_base
from assay.adapters.convert import Converted, Form, convert
from assay.adapters.dtypes import Dtype
from assay.adapters.fit import in_full
from assay.adapters.sources import Source, source_at
from assay.agreement import TOLERANCE, Agreement
from assay.cli import verifying
from assay.cli.settings import Json
from assay.cli.stopping import run as run_work
from assay.errors import BadInput, CheckpointError, ModelError

_NAMES = {"mlx": "mlx-lm", "peft": "PEFT", "gguf": "GGUF"}


def convert_command(
    adapter: Path,
    /,
    *,
    to: Form,
    out: Path,
    base: Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)] = None,
    dtype: Dtype | None = None,
    overwrite: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    verify: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    prompts: Path | None = None,
    tolerance: float = TOLERANCE,
    as_json: Json = False,
) -> int:
    """Write an adapter in another engine's form. What the form can't express is refused.

    Parameters
    ----------
    adapter
        An adapter's folder, or its .safetensors file.
    to
        peft for transformers and vLLM, gguf for llama.cpp, mlx for mlx-lm.
    out
        The folder to write, or the .gguf file.
    base
        The model that it was trained on; GGUF needs it [as the adapter names it]. For --verify, twice if in two files.
    dtype
        The numbers' type [as they are; f32 for GGUF].
    overwrite
        Replace an output that is there.
    verify
        Run base and adapter on both engines, and show how far they differ; exit code 1 if they do.
    prompts
        For --verify: a text file, a prompt a line [eight of assay's own].
    tolerance
        For --verify: how far the log-probability of a token may differ.
    """
    if not verify and (prompts is not None or tolerance != TOLERANCE or len(base or []) > 1):
        raise BadInput("--prompts, --tolerance and a second --base are for --verify; add it, or leave them out")
    source = source_at(adapter)
    chosen = verifying.plan(source, to, base or [], prompts, tolerance) if verify else None
    try:
        made = convert(source, out, to, _base(base[0] if base else None, source), dtype, overwrite=overwrite)
    except CheckpointError as error:
        raise BadInput(in_full(error)) from error
    if not as_json:
        print("\n".join(_shown(source, made)), flush=True)
    found = None if chosen is None else run_work(verifying.verify(chosen, source, made))
    if as_json:
        print(json.dumps(_as_json(source, made, found), ensure_ascii=False))
    elif found is not None:
        print("\n".join(verifying.shown(*found, tolerance, made.path)))
    return 1 if found is not None and found[0].problem else 0


def _base(spec: str | None, source: Source) -> Base | None:
    """The base that was given, or that the adapter's configuration names if it lies there or in the hub's cache."""
    if spec is not None:
        return read_base(verifying.place_of(spec))
    try:
        place = verifying.place_of(source.lora.base) if source.lora.base else None
    except ModelError:  # it is not in the cache
        return None
    return read_base(place) if place is not None and place.exists() else None


def _shown(source: Source, made: Converted) -> list[str]:
    lora = source.lora
    modules = len(lora.ranks)
    what = f"{modules} {'module' if modules == 1 else 'modules'}, {' and '.join(made.dtypes)}, {_bytes(made.size)}"
    lines = [f"{made.path}: {_NAMES[made.form]}, {what}"]
    if made.same:
        lines.append(f"the same adapter: its digest stays {made.former[:12]}")
    else:
        lines += [f"digest  {made.former[:12]}  {lora.shown}", f"        {made.digest()[:12]}  {made.path}"]
    return lines


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _as_json(source: Source, made: Converted, found: tuple[Agreement, tuple[str, str]] | None) -> dict[str, Any]:
    uniform = source.lora.uniform
    return {
        **asdict(made),
        "path": str(made.path),
        "digest": made.digest(),
        "rank": uniform[0] if uniform else None,
        "scale": uniform[1] if uniform else None,
        "source": {"path": str(source.lora.shown), "form": source.form, "digest": made.former},
        "verified": None if found is None else verifying.as_json(*found),
    }
