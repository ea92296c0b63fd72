"""`assay.toml`, the environment and flags, as one frozen and typed `Config`.

A flag goes before an environment variable (`ASSAY_CONFIG`, `ASSAY_WORKSPACE`), which goes before the file, which goes
before the default. Keys and `ASSAY_` variables that nobody knows are errors. Paths in the file are relative to it, those
of flags and variables to the current directory. All errors are `ConfigError`s, those of the file with its line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from assay.errors import ConfigError
from assay.plugins import nearest
from assay.toml_table import Table, TomlFile, expanded
from assay.types import AdapterPlace, EngineSettings, HttpSettings

FILE_NAME = "assay.toml"
DEFAULT_WORKSPACE = "assay-results"
VARIABLES = ("ASSAY_API_KEY", "ASSAY_CONFIG", "ASSAY_WORKSPACE")

# The keys of [engine] and of [http], which [models.NAME] takes too.
_ENGINE = EngineSettings.__struct_fields__
_HTTP = HttpSettings.__struct_fields__
# What [models.NAME] takes besides, for a model behind a URL.
_ADAPTERS = ("adapters", "adapters_on_server")


class ModelConfig(msgspec.Struct, frozen=True):
    """A model by its spec, what its engine may use; if it is behind a URL, how to talk to it and where it finds adapters."""

    spec: str
    settings: EngineSettings = msgspec.field(default_factory=EngineSettings)
    http: HttpSettings = msgspec.field(default_factory=HttpSettings)
    adapters: AdapterPlace = msgspec.field(default_factory=AdapterPlace)


class WatchConfig(msgspec.Struct, frozen=True):
    """Defaults of `assay watch`.

    base, judge: a model's name or spec. votes: of the judge, for each answer. suites: built-in names, or paths made absolute.
    every: one iteration in so many.
    limit: samples of each suite at most. poll_seconds: between two looks for new checkpoints. sinks: names of sinks.
    attempts, backoff_seconds: see `assay.plan.PlanConfig`. fetch_bytes: copies of checkpoints held at once.
    """

    base: str | None = None
    suites: tuple[str, ...] = ()
    every: int | None = None
    limit: int | None = None
    poll_seconds: float = 10.0
    sinks: tuple[str, ...] = ()
    attempts: int = 3
    backoff_seconds: float = 60.0
    fetch_bytes: int = 20 << 30
    judge: str | None = None
    votes: int = 1


class SinkConfig(msgspec.Struct, frozen=True):
    """A sink by the kind of its store, and where that is.

    path: of a file or folder, made absolute. url, database, org: of a server; `database` is a bucket for InfluxDB 2.
    version: of InfluxDB's write path, 1 to 3; None asks the server.
    """

    kind: str
    path: Path | None = None
    url: str | None = None
    database: str | None = None
    org: str | None = None
    version: int | None = None


class FamilyConfig(msgspec.Struct, frozen=True):
    """See `assay.checkpoints.naming.Family`. pattern: of a family that has one; "" for those known by a prefix."""

    prefix: str = ""
    tag: str = ""
    short: str = ""
    pattern: str = ""


class Config(msgspec.Struct, frozen=True):
    """All settings. workspace: absolute. file: the assay.toml in use, if any. engine, http: defaults of every model.

    bases: the model to load for the one that an adapter's configuration names. families: see `assay.checkpoints.naming`.
    """

    workspace: Path
    file: Path | None = None
    watch: WatchConfig = msgspec.field(default_factory=WatchConfig)
    engine: EngineSettings = msgspec.field(default_factory=EngineSettings)
    http: HttpSettings = msgspec.field(default_factory=HttpSettings)
    models: Mapping[str, ModelConfig] = {}
    sinks: Mapping[str, SinkConfig] = {}
    bases: Mapping[str, str] = {}
    families: tuple[FamilyConfig, ...] = ()

    def model(self, name: str) -> ModelConfig:
        """The model of that name; any other text is a spec, and gets the defaults."""
        return self.models.get(name) or ModelConfig(name, self.engine, self.http)


def load_config(
    *,
    config: str | Path | None = None,
    workspace: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Config:
    """Read the settings. `config` and `workspace` are the flags of those names. Raises `ConfigError`.

    environ, cwd: the process's own unless given. Without a flag or `ASSAY_CONFIG`, the nearest assay.toml counts, from
    the current directory up to the home directory, or to the root outside of it. An empty variable counts as unset.
    """
    environ = os.environ if environ is None else environ
    try:
        cwd = Path.cwd() if cwd is None else cwd.absolute()
    except FileNotFoundError:
        raise ConfigError("the current folder is not there any more; go to another one") from None
    for name in environ:
        if name.startswith("ASSAY_") and name not in VARIABLES:
            raise ConfigError(f"unknown environment variable {name}; {nearest(name, VARIABLES)}")
    named, source = (config, "--config") if config is not None else (environ.get("ASSAY_CONFIG"), "ASSAY_CONFIG")
    file = (cwd / expanded(named)) if named else _find(cwd, environ.get("HOME"))
    if file is not None and not file.is_file():
        raise ConfigError(f"{file}: there is no such file, which {source} names")
    tables = _File(file) if file is not None else None
    chosen = workspace if workspace is not None else environ.get("ASSAY_WORKSPACE")
    if chosen:
        place = cwd / expanded(chosen)
    elif tables is not None:
        place = tables.workspace()
    else:
        place = cwd / DEFAULT_WORKSPACE
    place = Path(os.path.normpath(place))
    return tables.config(place) if tables is not None else Config(workspace=place)


def _find(cwd: Path, home: str | None) -> Path | None:
    for folder in (cwd, *cwd.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        if home and folder == Path(home):
            return None
    return None


class _File:
    """One assay.toml; its methods read one table each."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.parent
        tables = ("workspace", "watch", "models", "engine", "http", "sinks", "bases", "families")
        self.root = TomlFile(path).root(tables)

    def workspace(self) -> Path:
        return self.folder / expanded(self.root.text("workspace") or DEFAULT_WORKSPACE)

    def config(self, workspace: Path) -> Config:
        engine = _settings(self.root.table("engine", _ENGINE), EngineSettings())
        http = _http(self.root.table("http", _HTTP), HttpSettings())
        models = {}
        named = self.root.table("models", None)
        for name in named.values:
            if not name.strip() or ":" in name or "/" in name:
                named.refuse(name, f"a model's name can't be empty or hold ':' or '/', as specs do: {name!r}")
            table = named.table(name, ("spec", *_ENGINE, *_HTTP, *_ADAPTERS))
            spec = table.text("spec")
            if spec is None:
                named.refuse(name, f"the model {name!r} needs a spec, such as spec = 'mlx:PATH'")
            for key in (*_HTTP, *_ADAPTERS):
                if key in table.values and "://" not in spec:
                    table.refuse(key, f"{key!r} is for a model behind a URL, which {name!r} is not; remove it")
            if "llama_server" in table.values and not spec.startswith("llama-server:"):
                table.refuse(
                    "llama_server", f"'llama_server' is for a llama-server: model, which {name!r} is not; remove it"
                )
            models[name] = ModelConfig(
                self._spec(spec), _settings(table, engine), _http(table, http), self._adapters(table)
            )
        watch = self._watch()
        return Config(
            workspace=workspace,
            file=self.path,
            watch=watch,
            engine=engine,
            http=http,
            models=models,
            sinks=self._sinks(),
            bases=self._bases(models),
            families=self._families(),
        )

    def _adapters(self, table: Table) -> AdapterPlace:
        folder, on_server = table.text("adapters"), table.text("adapters_on_server")
        if on_server is not None and folder is None:
            table.refuse(
                "adapters_on_server", "adapters_on_server says what a server calls the folder that adapters names"
            )
        if on_server is not None and not on_server.startswith("/"):
            table.wrong("adapters_on_server", "an absolute path of the server's machine")
        if folder is not None and "://" not in folder:
            folder = os.path.normpath(self.folder / expanded(folder))
        return AdapterPlace(folder or "", on_server or "")

    def _bases(self, models: Mapping[str, ModelConfig]) -> dict[str, str]:
        table = self.root.table("bases", None)
        found = {name: table.text(name) or "" for name in table.values}
        return {name: models[text].spec if text in models else self._spec(text) for name, text in found.items()}

    def _sinks(self) -> dict[str, SinkConfig]:
        named = self.root.table("sinks", None)
        sinks = {}
        for name in named.values:
            if re.fullmatch(r"[\w.-]+", name) is None:
                named.refuse(name, f"a sink's name is made of letters, digits, '_', '.' and '-', not {name!r}")
            table = named.table(name, ("kind", "path", "url", "database", "org", "version"))
            path, version = table.text("path"), table.whole("version")
            if version is not None and version > 3:
                table.wrong("version", "1, 2 or 3")
            sinks[name] = SinkConfig(
                kind=table.text("kind") or name,
                path=Path(os.path.normpath(self.folder / expanded(path))) if path is not None else None,
                url=table.text("url"),
                database=table.text("database"),
                org=table.text("org"),
                version=version,
            )
        return sinks

    def _families(self) -> tuple[FamilyConfig, ...]:
        rows = self.root.values.get("families", [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.root.wrong("families", "a list of tables, each [[families]] with prefix, tag and short")
        families = []
        for row in rows:
            table = Table(self.root.file, row, ("prefix", "pattern", "tag", "short"), ("families",))
            prefix, tag, short, pattern = [table.text(key) for key in ("prefix", "tag", "short", "pattern")]
            if (prefix is None) == (pattern is None) or (pattern is None and None in (tag, short)):
                self.root.refuse("families", "each of [[families]] needs prefix, tag and short, or a pattern")
            try:
                known = re.compile(pattern or "").groupindex
            except re.error as error:
                self.root.refuse("families", f"{pattern!r} is no regular expression: {error}")
            if strange := sorted({*known} - {"run", "tag", "label"}):
                self.root.refuse("families", f"{pattern!r} has a group {strange[0]!r}; name groups run, tag or label")
            families.append(FamilyConfig(prefix or "", tag or "", short or "", pattern or ""))
        return tuple(families)

    def _watch(self) -> WatchConfig:
        table = self.root.table(
            "watch",
            (
                *("base", "suites", "judge", "votes", "every", "limit", "poll_seconds", "sinks", "attempts"),
                *("backoff_seconds", "fetch_limit"),
            ),
        )
        base, judge = table.text("base"), table.text("judge")
        models = self.root.values.get("models", {})
        suites = table.texts("suites")
        return WatchConfig(
            base=base if base is None or base in models else self._spec(base),
            suites=tuple(self._suite(suite) for suite in suites),
            every=table.whole("every"),
            limit=table.whole("limit"),
            poll_seconds=table.seconds("poll_seconds", WatchConfig().poll_seconds),
            sinks=tuple(table.texts("sinks")),
            attempts=table.whole("attempts") or WatchConfig().attempts,
            backoff_seconds=table.seconds("backoff_seconds", WatchConfig().backoff_seconds),
            fetch_bytes=table.size("fetch_limit", 1) or WatchConfig().fetch_bytes,
            judge=judge if judge is None or judge in models else self._spec(judge),
            votes=table.whole("votes") or WatchConfig().votes,
        )

    def _suite(self, suite: str) -> str:
        """A path made absolute; a bare name, which may be a built-in suite's, as it is."""
        kind, colon, file = suite.partition(":")
        if kind == "perplexity" or (kind in ("lm-eval", "lm-eval-chat") and file.endswith((".yaml", ".yml"))):
            return kind + colon + os.path.normpath(self.folder / expanded(file))
        if kind in ("lm-eval", "lm-eval-chat"):
            return suite
        if "/" in suite or suite.endswith((".yaml", ".yml")):
            return os.path.normpath(self.folder / expanded(suite))
        return suite

    def _spec(self, spec: str) -> str:
        """The spec with a path of this folder made absolute. What may be a hub's id is one, unless the path is there."""
        found = re.fullmatch(r"(?:([A-Za-z_][\w-]*):)?(.+)", spec, re.DOTALL)
        if found is None or "://" in spec:
            return spec
        prefix = f"{found[1]}:" if found[1] else ""
        path = self.folder / expanded(found[2])
        explicit = found[2].startswith(("./", "../", "~")) or found[2].endswith(".gguf") or found[1] == "scripted"
        return f"{prefix}{os.path.normpath(path)}" if explicit or path.exists() else spec


def _settings(table: Table, default: EngineSettings) -> EngineSettings:
    memory, cache = table.size("memory_limit", 1), table.size("cache_limit", 0)
    context = table.whole("context_length")
    return EngineSettings(
        memory_limit=default.memory_limit if memory is None else memory,
        cache_limit=default.cache_limit if cache is None else cache,
        context_length=default.context_length if context is None else context,
        silence_seconds=table.seconds("silence_seconds", default.silence_seconds),
        llama_server=table.program("llama_server") or default.llama_server,
    )


def _http(table: Table, default: HttpSettings) -> HttpSettings:
    given: dict[str, Any] = {
        key: table.whole(key) if key in ("concurrency", "attempts") else table.seconds(key, 0.0)
        for key in _HTTP
        if key in table.values
    }
    if "call_seconds" in given:
        default = default.with_call(given["call_seconds"])
    return msgspec.structs.replace(default, **given)
