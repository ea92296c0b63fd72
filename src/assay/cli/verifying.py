"""`assay convert --verify`: the adapter before and after, each on its own engine, asked the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from assay.adapters.convert import Converted, Form
from assay.adapters.named import adapter_from, weights_at
from assay.adapters.sources import Source
from assay.agreement import PROMPTS, Agreement, Said, Side, compare, said
from assay.errors import BadInput
from assay.models.hub import hub_name
from assay.models.known import engines
from assay.models.open import ENGINES, open_local, resolve
from assay.models.own_loader import Library, open_with

_ENGINES: dict[str, str] = {"mlx": "mlx", "peft": "transformers", "gguf": "llama"}


@dataclass(frozen=True)
class Plan:
    """What is to be run. before, after: the base as each engine opens it."""

    before: str
    after: str
    prompts: Sequence[str]
    tolerance: float


def plan(source: Source, to: Form, bases: Sequence[str], prompts: Path | None, tolerance: float) -> Plan:
    """Raise `BadInput` for what can't be run, before anything is written."""
    named = list(bases) or ([source.lora.base] if source.lora.base else [])
    if not 1 <= len(named) <= 2:
        raise BadInput(
            "--verify runs base and adapter: name the base with --base, once more if it is another file after"
        )
    if not tolerance > 0:
        raise BadInput(f"--tolerance must be above 0, not {tolerance}")
    specs = _spec(named[0], source.form, single=len(named) == 1), _spec(named[-1], to, single=len(named) == 1)
    missing = {engine.name: engine.extra for engine in engines() if not engine.ready}
    for spec in specs:
        if (engine := spec.partition(":")[0]) in missing:
            raise BadInput(f"--verify runs {engine}, which is not installed: pip install 'assay[{missing[engine]}]'")
    return Plan(*specs, _prompts(prompts), tolerance)


def place_of(base: str) -> Path:
    """Where a base lies that is named by its path or its hub's id, after an engine's name or not. Raises `ModelError`."""
    engine, path = _split(base)
    if Path(path).exists() or hub_name(path) is None:
        return Path(path)
    return Path(resolve(f"{engine or 'transformers'}:{path}").path)


def _split(base: str) -> tuple[str, str]:
    """The engine that a base's name begins with, or "", and the rest."""
    engine, colon, path = base.partition(":")
    engine = "transformers" if engine == "hf" else engine
    return (engine, path) if colon and engine in ENGINES else ("", base)


def _spec(base: str, form: str, *, single: bool) -> str:
    named, _ = _split(base)
    engine = _ENGINES[form]
    if form == "gguf" and named == "llama-server":
        engine = named
    if named and named != engine and not single:
        raise BadInput(f"--base {base}: a {form} adapter is run by {engine}; name {engine}:PATH there")
    place = place_of(base)
    if not place.exists():
        raise BadInput(f"--verify runs base and adapter, and there is no base {base}; name it with --base")
    if form == "gguf" and place.is_dir() and not any(place.glob("*.gguf")):
        raise BadInput(f"--verify: {place} holds no GGUF file for llama.cpp to run; name the base's by a second --base")
    if form != "gguf" and not any(place.glob("*.safetensors")):
        raise BadInput(f"--verify: {engine} can't run {place}; name the base's folder of safetensors first")
    return f"{engine}:{place}"


def _prompts(path: Path | None) -> Sequence[str]:
    if path is None:
        return PROMPTS
    try:
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--prompts {path}: can't be read ({error}); name a text file, a prompt a line") from None
    if not found:
        raise BadInput(f"--prompts {path}: holds no prompt; write one a line")
    return found


async def verify(chosen: Plan, source: Source, made: Converted) -> tuple[Agreement, tuple[str, str]]:
    """How the two compare, and the names of the engines.

    Each engine's own library loads the files themselves, before and after: what assay reads wrongly, and so writes wrongly,
    would else agree with itself.
    """
    first, texts = await _by_its_own_loader(chosen.before, source.lora.weights, chosen.prompts, None)
    by = _by_llama_cpp if made.form == "gguf" else _by_its_own_loader
    second, _ = await by(chosen.after, weights_at(made.path), chosen.prompts, texts)
    return compare(first, second, chosen.tolerance), (first.engine, second.engine)


async def _by_llama_cpp(
    spec: str, weights: Path, prompts: Sequence[str], given: Sequence[str] | None
) -> tuple[Side, Sequence[str]]:
    base = await open_local(spec)
    try:
        tuned, texts = await said(await base.attach(adapter_from(weights)), prompts, given)
        plain, _ = await said(base, prompts, texts)
        return Side(base.info.engine, plain, tuned), texts
    finally:
        await base.aclose()


async def _by_its_own_loader(
    spec: str, weights: Path, prompts: Sequence[str], given: Sequence[str] | None
) -> tuple[Side, Sequence[str]]:
    """By mlx-lm or PEFT, which put an adapter in for good: the bare base is loaded once more."""
    library, _, path = spec.partition(":")
    sides: list[Said] = []
    texts = given
    for tuned in (True, False):
        model = await (open_with(cast(Library, library), path, weights) if tuned else open_local(spec))
        try:
            one, texts = await said(model, prompts, texts)
            sides.append(one)
        finally:
            await model.aclose()
    assert texts is not None
    return Side(model.info.engine, base=sides[1], tuned=sides[0]), texts


def shown(agreement: Agreement, engines_named: tuple[str, str], tolerance: float, path: Path) -> list[str]:
    """What the verification came to, in lines."""
    one, two = engines_named
    first, second = agreement.moved
    return [
        f"verified on {agreement.prompts} prompts by {one} and {two}: {agreement.tokens} tokens of text",
        f"largest difference of a token's log-probability: {agreement.apart:.2g} with the adapter, "
        f"{agreement.bases_apart:.2g} without (tolerance {tolerance:g})",
        f"the adapter moves it by {first:.2g} on {one} and by {second:.2g} on {two}",
        f"greedy text agrees on {agreement.same} of {agreement.prompts} prompts; the adapter changes {agreement.changed}",
        f"they do not agree: {agreement.problem}; {path} is kept" if agreement.problem else "they agree",
    ]


def as_json(agreement: Agreement, engines_named: tuple[str, str]) -> dict[str, Any]:
    """The same for programs; a difference that is infinite is null there."""
    found = asdict(agreement)
    finite = {name: found[name] if math.isfinite(found[name]) else None for name in ("apart", "bases_apart")}
    return {**found, **finite, "engines": engines_named, "agree": not agreement.problem}
