"""assay.toml, environment and flags: what goes before what, where paths lead, and what each mistake is told."""

from __future__ import annotations

import copy
import json
import pickle
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config import Config, ModelConfig, WatchConfig, load_config
from assay.errors import ConfigError
from assay.secret import Secret
from assay.toml_table import line_of, parse_size
from assay.types import AdapterPlace, EngineSettings, HttpSettings

FULL = """\
workspace = "out"          # beside this file

[watch]
base = "small"
suites = ["lab", "suites/own.yaml", "perplexity:held.jsonl"]
every = 2
limit = 20
poll_seconds = 0.5

[engine]
memory_limit = "4GB"
context_length = 2048

[http]
concurrency = 8
call_seconds = 60
total_seconds = 200
attempts = 3
backoff_seconds = 0.1
backoff_cap_seconds = 5
connect_seconds = 2.5

[models.small]
spec = "llama:models/small.gguf"
cache_limit = "512MiB"
context_length = 512

[models."big one"]
spec = "http://127.0.0.1:8000/v1#big"
concurrency = 2
connect_seconds = 1
"""
HTTP = HttpSettings(8, 60.0, 200.0, 3, 0.1, 5.0, 2.5)


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "assay.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_in_the_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "project", FULL)
    config = load_config(config=path, environ={}, cwd=tmp_path)
    assert config == Config(
        workspace=tmp_path / "project" / "out",
        file=path,
        watch=WatchConfig(
            base="small",
            suites=("lab", str(tmp_path / "project/suites/own.yaml"), f"perplexity:{tmp_path}/project/held.jsonl"),
            every=2,
            limit=20,
            poll_seconds=0.5,
        ),
        engine=EngineSettings(memory_limit=4_000_000_000, context_length=2048),
        http=HTTP,
        models={
            "small": ModelConfig(
                f"llama:{tmp_path}/project/models/small.gguf", EngineSettings(4_000_000_000, 512 * 2**20, 512), HTTP
            ),
            "big one": ModelConfig(
                "http://127.0.0.1:8000/v1#big",
                EngineSettings(4_000_000_000, None, 2048),
                HttpSettings(2, 60.0, 200.0, 3, 0.1, 5.0, 1.0),
            ),
        },
    )
    assert config.model("small").settings.context_length == 512
    assert config.model("mlx:base") == ModelConfig("mlx:base", config.engine, HTTP)
    with pytest.raises(AttributeError):
        config.workspace = tmp_path  # type: ignore[misc]


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    config = load_config(environ={"HOME": str(tmp_path)}, cwd=tmp_path)
    assert config == Config(workspace=tmp_path / "assay-results")
    assert config.watch.poll_seconds == 10.0


@pytest.mark.parametrize(
    ("text", "call", "total"),
    [
        ("", 300, 450),
        ("[http]\ncall_seconds = 20\n", 20, 30),
        ("[http]\ntotal_seconds = 900\n", 300, 900),
        ("[http]\ncall_seconds = 20\ntotal_seconds = 10\n", 20, 10),
        ("[http]\ntotal_seconds = 900\n[models.m]\ncall_seconds = 600\n", 600, 900),
        ("[http]\ntotal_seconds = 400\n[models.m]\ncall_seconds = 600\n", 600, 900),
        ("[http]\ncall_seconds = 600\n[models.m]\ntotal_seconds = 700\n", 600, 700),
    ],
)
def test_the_total_has_room_for_a_call_unless_both_are_said_together(
    tmp_path: Path, text: str, call: float, total: float
) -> None:
    text += "" if "[models.m]" in text else "[models.m]\n"
    write(tmp_path, text.replace("[models.m]\n", "[models.m]\nspec = 'http://127.0.0.1:1/v1#m'\n"))
    http = load_config(environ={}, cwd=tmp_path).model("m").http
    assert (http.call_seconds, http.total) == (call, total)


def test_the_nearest_file_counts_up_to_the_home_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    here = home / "project" / "runs"
    here.mkdir(parents=True)
    write(tmp_path, 'workspace = "outside"\n')
    environ = {"HOME": str(home)}
    assert load_config(environ=environ, cwd=here).file is None
    at_home = write(home, "")
    assert load_config(environ=environ, cwd=here).file == at_home
    nearest = write(home / "project", "")
    found = load_config(environ=environ, cwd=here)
    assert (found.file, found.workspace) == (nearest, home / "project" / "assay-results")
    assert load_config(environ={"HOME": str(home / "other")}, cwd=tmp_path).workspace == tmp_path / "outside"


def test_flags_go_before_the_environment_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'workspace = "file"\n')
    other = write(tmp_path / "other", 'workspace = "other-file"\n')
    here = tmp_path / "here"
    here.mkdir()
    environ = {"ASSAY_WORKSPACE": "variable", "ASSAY_CONFIG": "../other/assay.toml"}
    assert load_config(workspace="flag", environ=environ, cwd=here).workspace == here / "flag"
    assert load_config(environ=environ, cwd=here).workspace == here / "variable"
    only = load_config(environ={"ASSAY_CONFIG": "../other/assay.toml"}, cwd=here)
    assert only.workspace == other.parent / "other-file"
    assert load_config(config="../assay.toml", environ=environ, cwd=here).file == here / "../assay.toml"
    assert load_config(environ={"ASSAY_CONFIG": "", "ASSAY_WORKSPACE": ""}, cwd=here).workspace == tmp_path / "file"


def test_the_process_is_asked_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_WORKSPACE", "from-the-environment")
    assert load_config().workspace == tmp_path / "from-the-environment"


def test_a_spec_with_a_path_of_the_file_becomes_absolute(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    specs = {
        "mlx:base": f"mlx:{tmp_path}/base",
        "base": f"{tmp_path}/base",
        "hf:base": f"hf:{tmp_path}/base",
        "hf:org/base": "hf:org/base",
        "mlx:./gone": f"mlx:{tmp_path}/gone",
        "scripted:answers.jsonl": f"scripted:{tmp_path}/answers.jsonl",
        "https://host/v1#base": "https://host/v1#base",
        "llama:/abs/base.gguf": "llama:/abs/base.gguf",
    }
    for spec, absolute in specs.items():
        write(tmp_path, f'[watch]\nbase = "{spec}"\n')
        assert load_config(environ={}, cwd=tmp_path).watch.base == absolute


def test_an_unknown_variable_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown environment variable ASSAY_WORKSPCE; .*'ASSAY_WORKSPACE'\?"):
        load_config(environ={"ASSAY_WORKSPCE": "x"}, cwd=tmp_path)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: there is no such file, which --config names"):
        load_config(config="gone.toml", environ={}, cwd=tmp_path)
    with pytest.raises(ConfigError, match="which ASSAY_CONFIG names"):
        load_config(environ={"ASSAY_CONFIG": "gone.toml"}, cwd=tmp_path)
    with pytest.raises(ConfigError, match="there is no such home directory"):
        load_config(config="~no-such-user-here/assay.toml", environ={}, cwd=tmp_path)


MISTAKES = {
    "not TOML": ("workspace = 'a'\nevery =\n", 2, "not valid TOML: invalid value"),
    "duplicate key": ("[watch]\nevery = 1\nevery = 2\n", 3, "not valid TOML: cannot overwrite a value"),
    "ends too early": ("[watch]\nsuites = [\n", 2, "not valid TOML"),
    "unknown top-level key": (
        "\nworkspce = 'x'\n",
        2,
        "unknown key 'workspce' in the top level; did you mean 'workspace'?",
    ),
    "unknown table": ("workspace = 'x'\n[wach]\nevery = 1\n", 2, "did you mean 'watch'?"),
    "unknown key": (
        "[watch]\nbase = 'x'\n# every is next\nevrey = 2\n",
        4,
        "unknown key 'evrey' in [watch]; did you mean 'every'?",
    ),
    "unknown key of a model": (
        "[models.a]\nspec = 'x'\n[models.b]\nspec = 'y'\nmemory_limits = 1\n",
        5,
        "unknown key 'memory_limits' in [models.b]; did you mean 'memory_limit'?",
    ),
    "in an inline table": ("models.a = { spec = 'x', cache = 1 }\n", 1, "did you mean 'cache_limit'?"),
    "dotted and quoted": ("[models]\n\n\"my model\".spec = 'x'\n'my model'.spek = 'y'\n", 4, "did you mean 'spec'?"),
    "after values of many lines": (
        "[watch]\nbase = '''\nevery = 1\n'''\nsuites = [\n  'a', # ]\n  'b',\n]\nevery = 'x'\n",
        9,
        "watch.every must be a whole number of at least 1, not 'x'",
    ),
    "a value of many lines": (
        "[watch]\nevery = 1\n\nsuites = [\n  'a',\n  7,\n]\n",
        4,
        "watch.suites must be a list of",
    ),
    "windows line ends": ("[watch]\r\nbase = 'x'\r\nevery = 0\r\n", 3, "watch.every must be a whole number"),
    "a separator that is no line end": ("# \u2028 \x85\n[watch]\nevery = 0\n", 3, "watch.every"),
    "boolean": ("[watch]\nlimit = true\n", 2, "watch.limit must be a whole number of at least 1, not True"),
    "seconds": ("[watch]\npoll_seconds = nan\n", 2, "watch.poll_seconds must be a number of seconds above 0"),
    "seconds at zero": ("[watch]\npoll_seconds = 0\n", 2, "above 0, not 0"),
    "text": ("workspace = 7\n", 1, "workspace must be text that is not empty, not 7"),
    "empty text": ("workspace = ' '\n", 1, "workspace must be text that is not empty"),
    "no table": ("watch = 7\n", 1, "watch must be a table, not 7"),
    "model that is no table": ("[models]\na = 'x'\n", 2, "models.a must be a table, not 'x'"),
    "models that are no table": ("[watch]\nbase = 'x'\n[[models]]\nspec = 'x'\n", 3, "models must be a table"),
    "model without a spec": ("[models.a]\nspec = 'x'\n[models.b]\ncache_limit = 1\n", 3, "the model 'b' needs a spec"),
    "name like a spec": ("[models.'hf:a/b']\nspec = 'x'\n", 1, "can't be empty or hold ':' or '/'"),
    "size": ("[engine]\nmemory_limit = '4 apples'\n", 2, "such as 8000000000, '8GB' or '512MiB', not '4 apples'"),
    "negative size": ("[engine]\ncache_limit = -1\n", 2, "a size of at least 0 bytes"),
    "no memory": ("[engine]\nmemory_limit = 0\n", 2, "a size of at least 1 bytes"),
    "no requests at once": (
        "[http]\nconcurrency = 0\n",
        2,
        "http.concurrency must be a whole number of at least 1, not 0",
    ),
    "half a request": ("[http]\nattempts = 1.5\n", 2, "http.attempts must be a whole number"),
    "no time": ("[http]\n\ntotal_seconds = 0\n", 3, "http.total_seconds must be a number of seconds above 0"),
    "no end of time": ("[http]\ncall_seconds = inf\n", 2, "http.call_seconds must be a number of seconds above 0"),
    "unknown key of http": ("[http]\ntimeout = 3\n", 2, "unknown key 'timeout' in [http]"),
    "http of a local model": (
        "[models.a]\nspec = 'mlx:x'\ncontext_length = 5\nconcurrency = 5\n",
        4,
        "'concurrency' is for a model behind a URL, which 'a' is not; remove it",
    ),
    "program of another engine": (
        "[models.a]\nspec = 'llama:x.gguf'\nllama_server = 'llama-server'\n",
        3,
        "'llama_server' is for a llama-server: model, which 'a' is not; remove it",
    ),
    "no program": ("[engine]\nllama_server = 3\n", 2, "engine.llama_server must be text"),
    "fraction of a byte": ("[engine]\nmemory_limit = 1.5\n", 2, "engine.memory_limit must be a size"),
}


def test_a_program_is_a_path_beside_the_file_or_a_command(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text(
        "[engine]\nllama_server = 'llama-server-cuda'\n"
        "[models.a]\nspec = 'llama-server:base.gguf'\nllama_server = './bin/llama-server'\n"
    )
    config = load_config(environ={}, cwd=tmp_path)
    assert config.engine.llama_server == "llama-server-cuda"
    assert config.models["a"].settings.llama_server == str(tmp_path / "bin" / "llama-server")
    assert config.models["a"].spec == f"llama-server:{tmp_path / 'base.gguf'}"


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    text, line, sentence = MISTAKES[case]
    path = tmp_path / "assay.toml"
    path.write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(environ={}, cwd=tmp_path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_bytes(b"# fine\nworkspace = 'caf\xe9'\n")
    with pytest.raises(ConfigError, match=r"assay\.toml:2: not UTF-8 text"):
        load_config(environ={}, cwd=tmp_path)


keys = st.lists(st.sampled_from(["a", "b", "c.d", '"e.f"', "'g h'"]), min_size=1, max_size=5, unique=True)
values = st.sampled_from(
    ["1", "'x # [y]'", '"""\na = 1\n[b]\n"""', "[\n 1, # ]\n [2],\n]", "{ a = 1, b = { c = [1] } }"]
)


@given(st.lists(st.tuples(keys, st.lists(values, min_size=5, max_size=5)), min_size=1, max_size=4), st.integers(0, 2))
def test_each_key_of_a_file_is_found_in_its_line(tables: list[tuple[list[str], list[str]]], gap: int) -> None:
    text, expected = "", []
    for number, (names, contents) in enumerate(tables):
        text += "\n" * gap + f"# [t{number + 1}]\n[t{number}.'x y']\n"
        for name, content in zip(names, contents, strict=False):
            parsed: Any = tomllib.loads(f"{name} = 1")
            path = [f"t{number}", "x y"]
            while isinstance(parsed, dict):
                ((key, parsed),) = parsed.items()
                path.append(key)
            expected.append((path, text.count("\n") + 1))
            text += f"{name} = {content} # b = 2\n" + "\n" * gap
    assert [(path, line_of(text, path)) for path, _ in expected] == expected
    assert line_of(text, ["nowhere"]) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("4GB", 4 * 10**9),
        ("4 gb", 4 * 10**9),
        ("4G", 4 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("512MiB", 512 * 2**20),
        ("2TiB", 2 * 2**40),
        ("0.1B", None),
        ("-1GB", None),
        ("GB", None),
        ("4 GBit", None),
        ("1e3", None),
        ("", None),
        ("٤GB", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size


TOKEN = "hunter2-and-more"


@dataclass
class Holder:
    token: Secret


def test_a_secret_is_never_shown() -> None:
    secret = Secret(TOKEN)
    holder = Holder(secret)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", f"{secret!r}", "%s %r" % (secret, secret)]  # noqa: UP031
    shown += [repr(holder), str([secret]), str(asdict(holder)), json.dumps({"a": secret}, default=str)]
    for text in shown:
        assert TOKEN not in text
        assert "***" in text
    for encode in (pickle.dumps, json.dumps, msgspec.json.encode, msgspec.msgpack.encode):
        with pytest.raises(TypeError) as caught:
            encode(secret)
        assert TOKEN not in str(caught.value)
    with pytest.raises(TypeError):
        secret.__getstate__()
    assert secret.reveal() == TOKEN


def test_a_secret_can_be_compared_and_copied() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert copy.deepcopy(Secret("a")) == copy.copy(Secret("a")) == Secret("a")
    assert not Secret("")


def test_a_current_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="the current folder is not there any more"):
        load_config()


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ('prefix = "a"\npattern = "b"', "needs prefix, tag and short, or a pattern"),
        ('prefix = "a"', "needs prefix, tag and short, or a pattern"),
        ("pattern = '('", "is no regular expression"),
        ("pattern = '(?P<model>x)'", "has a group 'model'; name groups run, tag or label"),
    ],
)
def test_a_family_that_is_none(tmp_path: Path, family: str, said: str) -> None:
    (tmp_path / "assay.toml").write_text(f"[[families]]\n{family}\n")
    with pytest.raises(ConfigError, match=said):
        load_config(cwd=tmp_path, environ={})


def test_where_a_server_finds_adapters(tmp_path: Path) -> None:
    text = '[models.a]\nspec = "http://gpu/v1#m"\nadapters = "shared"\nadapters_on_server = "/data"\n'
    text += '[models.b]\nspec = "http://gpu/v1#m"\nadapters = "ssh://gpu/var/tmp"\n'
    models = load_config(config=write(tmp_path, text), environ={}, cwd=tmp_path).models
    assert models["a"].adapters == AdapterPlace(f"{tmp_path}/shared", "/data")
    assert models["b"].adapters == AdapterPlace("ssh://gpu/var/tmp")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('spec = "mlx:m"\nadapters = "x"', "'adapters' is for a model behind a URL, which 'a' is not"),
        ('spec = "http://g/v1"\nadapters_on_server = "/x"', "says what a server calls the folder that adapters names"),
        ('spec = "http://g/v1"\nadapters = "x"\nadapters_on_server = "x"', "must be an absolute path of the server's"),
    ],
)
def test_a_place_that_no_server_can_find(lines: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_config(config=write(tmp_path, f"[models.a]\n{lines}\n"), environ={}, cwd=tmp_path)
