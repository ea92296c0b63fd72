"""From what the user calls a sink to one: a name in `assay.toml`, or a kind with the place after a colon."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from assay.config import Config, SinkConfig
from assay.errors import ConfigError
from assay.plugins import Registry, nearest
from assay.sinks.base import Sink

# Each makes a sink of (name, settings, workspace).
SINKS: Registry[Any] = Registry(
    "sink",
    "assay.sinks",
    {
        "duckdb": "assay.sinks.duckdb:open_sink",
        "influx": "assay.sinks.influx:open_sink",
    },
)


def open_sinks(texts: Iterable[str], config: Config) -> list[Sink]:
    """The sinks that `texts` name, each place once however often it is named. Raises as `open_sink` does."""
    sinks: dict[str, Sink] = {}
    for text in texts:
        sink = open_sink(text, config)
        sinks.setdefault(sink.place, sink)
    return list(sinks.values())


def open_sink(text: str, config: Config) -> Sink:
    """The sink that `text` names: a name from `[sinks]`, a kind alone, or `KIND:PLACE`.

    Raises `ConfigError` for what is none of them, and for a place that its kind can't use.
    """
    if text in config.sinks:
        settings = config.sinks[text]
    else:
        kind, _, place = text.partition(":")
        if kind not in SINKS:
            raise ConfigError(f"unknown sink {text!r}; {nearest(kind, {*config.sinks, *SINKS.names()})}")
        settings = _placed(kind, place)
    SINKS.check(settings.kind)
    sink: Sink = SINKS.get(settings.kind)(text, settings, config.workspace)
    return sink


def _placed(kind: str, place: str) -> SinkConfig:
    if not place:
        return SinkConfig(kind)
    if "://" in place:
        url, _, database = place.partition("#")
        return SinkConfig(kind, url=url, database=database or None)
    return SinkConfig(kind, path=Path(place).expanduser().absolute())
