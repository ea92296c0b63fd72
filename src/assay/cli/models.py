"""`assay models`: the engines and what they can do here, and the models that assay.toml names or the hub's cache holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from assay.adapters.gguf_header import gguf_files
from assay.cli.settings import Config, ConfigFile, Json, settings
from assay.models.http_address import masked
from assay.models.hub import HubName, cached_models, size_text
from assay.models.known import Engine, engines
from assay.report.blocks import console_on


def models(*, as_json: Json = False, config: ConfigFile = None) -> int:
    """Show the engines and what each can do here, what to install for more, and the models that are at hand.

    At hand are those that assay.toml names and those that the hub's cache holds.
    """
    found = settings(config, None)
    known = engines(found.engine.llama_server)
    fetched = cached_models()
    if as_json:
        named = {name: masked(each.spec) for name, each in found.models.items()}
        hub = [{"name": str(name), "path": str(path), "size": _size(path)} for name, path in fetched]
        print(json.dumps({"engines": [asdict(each) for each in known], "models": named, "hub": hub}, indent=2))
        return 0
    console = console_on()
    console.print(_engines(known))
    for table in [_named(found)] * bool(found.models) + [_cached(fetched)] * bool(fetched):
        console.print()
        console.print(table)
    return 0


def _engines(known: list[Engine]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("engine", "opens", "can", "on", "here"):
        table.add_column(heading, overflow="fold")
    for engine in known:
        table.add_row(engine.name, engine.opens, _can(engine), engine.device, _here(engine))
    return table


def _can(engine: Engine) -> str:
    adapters = "" if engine.adapters is None else f"{engine.adapters} adapters"
    told = (adapters, "batches" if engine.batches else "", "likelihoods" if engine.likelihoods else "")
    return ", ".join(filter(None, told))


def _here(engine: Engine) -> str:
    if engine.ready:
        return ", ".join(engine.installed) or "yes"
    return engine.trouble or f"pip install 'assay[{engine.extra}]'"


def _cached(fetched: list[tuple[HubName, Path]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("in the hub's cache", overflow="fold")
    table.add_column("size", justify="right")
    for name, path in fetched:
        table.add_row(str(name), size_text(_size(path)))
    return table


def _size(path: Path) -> int:
    """Bytes of the weights: a GGUF's, all its shards', or a folder's safetensors."""
    if path.is_file():
        return sum(file.stat().st_size for file in gguf_files(path))
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def _named(found: Config) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    table.add_column("spec", overflow="fold")
    for name, each in found.models.items():
        table.add_row(name, masked(each.spec))
    return table
