"""`assay generate`: one prompt, one answer, as it comes."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from assay.adapters.named import adapter_at
from assay.cli.attaching import attach
from assay.cli.http import HttpFlags, with_flags
from assay.cli.settings import Config, ConfigFile, settings
from assay.cli.stopping import run as run_work
from assay.errors import BadInput, GenerationError
from assay.models.base import TextModel, complete
from assay.models.open import open_model
from assay.types import Adapter, Chunk, Completion, GenerateOptions, Message, Prompt, Raw


@dataclass(frozen=True)
class _Options:
    """How to generate. Each is neutral unless given: greedy, nothing cut, nothing penalised."""

    temperature: float = 0.0
    "0 is greedy."
    max_tokens: int = 512
    "Tokens generated at most."
    top_p: float = 1.0
    "Draw from the likeliest tokens that have this probability together; 1 is off."
    top_k: int = 0
    "Draw from so many of the likeliest tokens; 0 is off."
    repeat_penalty: float = 1.0
    "1 is off."
    stop: Annotated[list[str], Parameter(negative="", consume_multiple=False)] = field(default_factory=list)
    "End before this text; give it again for more."
    seed: int | None = None
    "Of what is drawn."


OptionFlags = Annotated[_Options | None, Parameter(name="*")]


def options_of(flags: _Options | None) -> GenerateOptions:
    """The flags as what a model takes."""
    given = flags or _Options()
    return GenerateOptions(
        temperature=given.temperature,
        max_tokens=given.max_tokens,
        top_p=given.top_p,
        top_k=given.top_k,
        repeat_penalty=given.repeat_penalty,
        stop=tuple(given.stop),
        seed=given.seed,
    )


def generate(
    model: str,
    prompt: str = "-",
    /,
    *,
    adapter: Path | None = None,
    system: str | None = None,
    raw: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    options: OptionFlags = None,
    http: HttpFlags = None,
    json: Annotated[bool, Parameter(name="--json", negative="", show_default=False)] = False,
    config: ConfigFile = None,
) -> int:
    """Have a model answer one prompt, token by token. Nothing is journaled.

    Parameters
    ----------
    model
        A folder, a .gguf file, ENGINE:PATH, or a URL with #MODEL.
    prompt
        What to ask; - reads it from standard input [-].
    adapter
        An adapter's folder, or its .safetensors or .gguf file.
    system
        A system message before the prompt.
    raw
        Send the prompt as it is, without the chat template.
    json
        Print the answer as JSON, with its counts.
    """
    found = with_flags(settings(config, None), http, model)
    if raw and system is not None:
        raise BadInput("--raw sends the prompt as it is, which leaves no place for --system; leave one out")
    text = _standard_input() if prompt in ("-", "./-") else prompt
    asked: Prompt = Raw(text) if raw else [Message("system", system), Message("user", text)] if system else text
    tuned = None if adapter is None else adapter_at(adapter)
    run_work(_generate(found, model, tuned, asked, options_of(options), as_json=json))
    return 0


def _standard_input() -> str:
    text = sys.stdin.read()
    if not text.strip():
        raise BadInput("there is no prompt: give it as an argument, or on standard input")
    return text.removesuffix("\n")


async def _generate(
    found: Config, name: str, adapter: Adapter | None, prompt: Prompt, options: GenerateOptions, *, as_json: bool
) -> None:
    named = found.model(name)
    base = await open_model(named.spec, named.settings, http=named.http, adapters=named.adapters)
    try:
        model = base if adapter is None else await attach(base, adapter)
        answer = await _printed(model, prompt, options, quiet=as_json)
        if as_json:
            print(json.dumps(_as_json(model, answer), ensure_ascii=False))
        elif sys.stdout.isatty():
            print(f"\n{cost(answer, options.max_tokens)}", file=sys.stderr)
        elif not answer.text.endswith("\n"):
            print()
    finally:
        await base.aclose()


async def _printed(model: TextModel, prompt: Prompt, options: GenerateOptions, *, quiet: bool) -> Completion:
    """The whole answer, which is printed as it comes."""

    def printed(chunk: Chunk) -> None:
        if not quiet:
            print(chunk.text, end="", flush=True)

    try:
        return await complete(model, prompt, options, printed)
    except GenerationError as error:
        if error.partial and not quiet:
            print()
        raise


def cost(answer: Completion, most: int) -> str:
    """What an answer of at most so many tokens took, in a line."""
    usage = answer.usage
    pace = f", {usage.completion_tokens / usage.seconds:.0f} tokens/s" if usage.seconds > 0 else ""
    end = "--max-tokens" if usage.completion_tokens >= most else "the end of the context"
    cut = f", cut off at {end}" if answer.finish_reason == "length" else ""
    return f"{usage.prompt_tokens} + {usage.completion_tokens} tokens, {usage.seconds:.1f} s{pace}{cut}"


def _as_json(model: TextModel, answer: Completion) -> dict[str, Any]:
    info = model.info
    return {
        "model": info.name,
        "engine": info.engine,
        "engine_version": info.engine_version,
        "adapter": info.adapter,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": msgspec.structs.asdict(answer.usage),
    }
