"""`assay models`: the engines, what is installed of them, and the models that assay.toml names."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.table import Table

from assay.cli.settings import Config, ConfigFile, Json, settings
from assay.models.http_address import masked
from assay.models.known import Engine, engines
from assay.report.blocks import console_on


def models(*, as_json: Json = False, config: ConfigFile = None) -> int:
    """Show the engines that are installed here, what to install for more, and the models that assay.toml names."""
    found = settings(config, None)
    known = engines(found.engine.llama_server)
    if as_json:
        named = {name: masked(each.spec) for name, each in found.models.items()}
        print(json.dumps({"engines": [asdict(engine) for engine in known], "models": named}, indent=2))
        return 0
    console = console_on()
    console.print(_engines(known))
    if found.models:
        console.print(_named(found), end="")
    return 0


def _engines(known: list[Engine]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("engine", "opens", "adapters", "here"):
        table.add_column(heading, overflow="fold")
    for engine in known:
        adapters = "yes" if engine.adapters else "no"
        table.add_row(engine.name, engine.opens, adapters, _here(engine))
    return table


def _here(engine: Engine) -> str:
    if engine.ready:
        return ", ".join(engine.installed) or "yes"
    return engine.trouble or f"pip install 'assay[{engine.extra}]'"


def _named(found: Config) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    table.add_column("spec", overflow="fold")
    for name, each in found.models.items():
        table.add_row(name, masked(each.spec))
    return table
