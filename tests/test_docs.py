"""Everything that README.md and docs/*.md show is run here, in their order, a fresh folder a page.

What a fenced block is, its first word says, and what is done with it:

- `sh`: run by bash, from a folder in which `examples` is the repository's and `assay-results` the lab's results. It must end
  with 0, or with the `exit=N` after the word. `UNRUN` names the commands that can't run here, and checks each another way. A
  `watch` without `--once` goes on for ever: it is interrupted once it waits, as a reader would, and must end with 130.
- `python`: run by a fresh interpreter in that folder; with `file=NAME` written there, for a command that follows.
- `text` and `json`: what the block before it prints on standard output, or on standard error where it prints nothing
  there. A line `…` stands for any number of lines, and `/home/you/project` for the folder. After a benchmark, which isn't
  run here, they show what was measured.
- `ini`, `xml`: a systemd unit, a launchd plist; read, and their command's flags are checked.
- `yaml`, `toml`, `jsonl`: written to `file=NAME` and read: a suite by `load_suite` (which must fail where it says `wrong`), a
  `rubric` by `load_rubric`, a `task` of lm-evaluation-harness's when it runs it, a script by the scripted engine, an
  `assay.toml` by `load_config`.
"""

from __future__ import annotations

import configparser
import json
import os
import plistlib
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from assay.cli.app import app
from assay.config import load_config
from assay.errors import SuiteError
from assay.hosts.address import parse_address as parse_host_address
from assay.models.http_address import parse_address
from assay.models.open import named_on_hub
from assay.models.scripted import open_engine
from assay.models.vllm_api import START as VLLM_START
from assay.results.lens import Lens
from assay.scorers.base import check_suite
from assay.scorers.rubric_file import load_rubric
from assay.suites.suite import load_suite
from assay.types import EngineSettings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()

_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECONDS = 120


@dataclass(frozen=True)
class Block:
    """A fenced block. attributes: the words after the first; `name=value` has a value, a bare word has ""."""

    page: Path
    line: int
    language: str
    attributes: Mapping[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Demo:
    """What `make demo` runs once its tools are installed: its output, and the folder it ran in."""

    folder: Path
    output: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        language, *words = match[1].split()
        attributes = {name: value for name, _, value in (word.partition("=") for word in words)}
        yield Block(page, text.count("\n", 0, match.start()) + 1, language, attributes, match[2])


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_") and name != "COLUMNS"}
    return {**clean, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def folder_with_lab(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


_demo: list[Demo] = []


def demo_of(factory: pytest.TempPathFactory) -> Demo:
    """Run the recipe of the Makefile's `demo` once for all tests, but for the installation."""
    if not _demo:
        folder = folder_with_lab(factory.mktemp("demo") / "repository")
        recipe = re.search(r"^demo:.*\n((?:\t.*\n|.*\\\n)+)", MAKEFILE.replace("\\\n", " "), re.MULTILINE)
        assert recipe is not None
        commands = [line.strip().lstrip("@").replace("$(BIN)/", "") for line in recipe[1].splitlines()]
        done = shell("\n".join(commands), folder)
        assert done.returncode == 0, done.stderr
        _demo.append(Demo(folder, done.stdout))
    return _demo[0]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return demo_of(tmp_path_factory)


# --- Commands that are not run, and what is checked instead ---


def _target(match: re.Match[str]) -> None:
    assert re.search(rf"^{match[1]}:", MAKEFILE, re.MULTILINE), f"the Makefile has no target {match[1]}"


def _extra(match: re.Match[str]) -> None:
    assert match[1] in PROJECT["project"]["optional-dependencies"], f"there is no extra {match[1]}"


def _environment_of_make(match: re.Match[str]) -> None:
    assert f"VENV ?= {match[1]}\n" in MAKEFILE


def _named_by_make(match: re.Match[str]) -> None:
    assert match[1] in MAKEFILE


def _of_a_server(match: re.Match[str]) -> None:
    for url in re.findall(r"https?://\S+", match[0]):
        parse_address(url)
    assert match[1] in verbs(), f"there is no verb {match[1]}"
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", match[0])) <= flags()


def _of_a_hub(match: re.Match[str]) -> None:
    assert named_on_hub(match[1])[1] is not None, f"{match[1]} is no hub's id"


def _of_a_host(match: re.Match[str]) -> None:
    parse_host_address(match[2])
    assert match[1] in verbs(), f"there is no verb {match[1]}"
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", match[0])) <= flags()


def _vllm(match: re.Match[str]) -> None:
    assert match[1] in VLLM_START
    assert match[2] in VLLM_START


def _benchmark(match: re.Match[str]) -> None:
    source = (ROOT / match[1]).read_text(encoding="utf-8")
    for flag in re.findall(r"--[a-z][a-z-]*", match[2]):
        assert f'"{flag}"' in source, f"{match[1]} has no flag {flag}"


UNRUN: Mapping[str, Callable[[re.Match[str]], None]] = {
    r"make (\w+)": _target,  # installs packages; what `make demo` runs then, `demo_of` runs
    r"pip install '(?:assay|\.)\[([\w-]+)\]'": _extra,  # installs packages
    r"\. (\.venv)/bin/activate": _environment_of_make,  # there is no such folder here; PATH is set instead
    r"sudo apt-get install -y make git (python3-venv)": _named_by_make,  # changes the machine
    r"(?:ASSAY_API_KEY=\S+ )?assay (\S+) .*https?://\S+#.*": _of_a_server,  # there is no server here
    r"assay fetch (\S+)": _of_a_hub,  # there is no hub here
    r"assay (\S+) (ssh://\S+).*": _of_a_host,  # there is no such host here
    r"(VLLM_\w+=True) vllm serve \S+ (--enable-lora) .*": _vllm,  # wants a GPU
    r"(?:\S+/)?python3? (bench/\w+\.py)(.*)": _benchmark,  # takes minutes, and prints times
    r"python3 -m venv \S+|\S+/pip install .*": lambda match: None,  # installs what benchmarks compare with
    r"git clone \S+ assay|cd assay": lambda match: None,  # the reader's own address; the tests run in a clone
}


def runnable(block: Block) -> str:
    """The block's commands that can run here; the others are checked."""
    kept = []
    for line in block.text.splitlines():
        for pattern, check in UNRUN.items():
            if (match := re.fullmatch(pattern, line.partition("  #")[0].strip())) is not None:
                check(match)
                break
        else:
            kept.append(line)
    return "\n".join(kept).strip()


def run_shell(block: Block, folder: Path, demo: Demo) -> str | None:
    """The block's output; None where it did not run."""
    script = runnable(block)
    if not script:
        return demo.output if "make demo" in block.text else None
    if "assay watch" in script and not {"--once", "--help"} & set(script.split()):
        interrupted(script, folder)
        return ""
    done = shell(script, folder)
    wanted = int(block.attributes.get("exit", "0"))
    assert done.returncode == wanted, f"{block}: exit code {done.returncode}, not {wanted}:\n{done.stdout}{done.stderr}"
    return done.stdout or done.stderr


def interrupted(command: str, folder: Path) -> None:
    """Run a watch without an end until it waits, and interrupt it."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        try:
            assert any("waiting for" in line for line in process.stderr), "it ended without having waited"
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            assert process.wait(_SECONDS) == 130
        finally:
            process.kill()


def run_python(block: Block, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"
    return done.stdout


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def shows(wanted: str, output: str) -> bool:
    """Whether `output` is what `wanted` shows, where a line `…` stands for any number of lines."""
    parts = re.split(r"^…$", "\n".join(lines_of(wanted)), flags=re.MULTILINE)
    pattern = r"(?:.*\n)*?".join(re.escape(part.removeprefix("\n")) for part in parts)
    return re.fullmatch(pattern + r"\n?", "\n".join(lines_of(output)) + "\n") is not None


def write(block: Block, folder: Path) -> None:
    """Write the block's file and read it as assay does."""
    assert "file" in block.attributes, f"{block}: needs file=NAME"
    path = folder / block.attributes["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    if block.language == "jsonl":
        assert [json.loads(line) for line in block.text.splitlines()]
    elif path.name == "assay.toml":
        load_config(config=path, environ={}, cwd=folder)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif "wrong" in block.attributes:
        with pytest.raises(SuiteError):
            check_suite(load_suite(path))
    elif "rubric" in block.attributes:
        load_rubric(path)
    elif "task" in block.attributes:
        assert YAML(typ="safe").load(block.text)["task"]
    elif re.search(r"^samples:", block.text, re.MULTILINE):
        check_suite(load_suite(path))
    else:
        open_engine(str(path), EngineSettings())


def check_unit(block: Block) -> None:
    """The command of a systemd unit or a launchd plist has flags that there are."""
    if block.language == "ini":
        unit = configparser.ConfigParser(interpolation=None, delimiters="=")
        unit.read_string(block.text)
        words = unit["Service"]["ExecStart"].split()
    else:
        words = plistlib.loads(block.text.encode())["ProgramArguments"]
    assert words[0].endswith("/bin/assay")
    assert words[1] in verbs()
    assert {word for word in words if word.startswith("--")} <= flags()


def play(page: Path, folder: Path, demo: Demo) -> Iterator[tuple[Block, str]]:
    """Do all that the page's blocks say; yield each block that shows an output, with the real one."""
    ran: Block | None = None
    output: str | None = None
    for block in blocks(page):
        match block.language:
            case "sh":
                ran, output = block, run_shell(block, folder, demo)
            case "python" if "file" in block.attributes:
                (folder / block.attributes["file"]).write_text(block.text, encoding="utf-8")
            case "python":
                ran, output = block, run_python(block, folder)
            case "text" | "json":
                assert ran is not None, f"{block}: no command stands before this output"
                assert output is not None or "bench/" in ran.text, f"{block}: the command before it does not run"
                if output is not None:
                    yield block, output.replace(str(folder.resolve()), "/home/you/project")
                ran = None
            case "yaml" | "toml" | "jsonl":
                write(block, folder)
            case "ini" | "xml":
                check_unit(block)
            case unknown:
                raise AssertionError(f"{block}: a block must say what it is, not {unknown!r}")


def stage(folder: Path, demo: Demo) -> Path:
    """A folder as the pages expect it: the examples, and the lab's results where they lie without a flag."""
    folder_with_lab(folder)
    shutil.copytree(demo.folder / "build" / "demo", folder / "assay-results")
    shutil.copytree(demo.folder / "build", folder / "build")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Path, tmp_path: Path, demo: Demo) -> None:
    if page.name == "lm-eval.md":
        pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'assay[lm-eval]'")
    if page.name == "convert.md":
        pytest.importorskip("peft", reason="it verifies by the engine transformers: make torch")
    wrong = []
    for block, output in play(page, stage(tmp_path / "page", demo), demo):
        if not shows(block.text, output):
            wrong.append(f"{block} shows\n{block.text}\nbut the output is\n{output}")
    assert not wrong, "\n".join(wrong)


def test_an_output_is_compared_line_by_line() -> None:
    assert shows("a\nb\n", "a  \nb\n")
    assert shows("a\n…\nd\n", "a\nb\nc\nd\n")
    assert shows("…\nd\n", "d\n")
    assert not shows("a\n…\nd\n", "a\nb\ncd\n")
    assert not shows("a\n", "a\nb\n")


# --- What the prose says ---


@cache
def anchors(page: Path) -> frozenset[str]:
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}, which has no such heading"


def verbs() -> list[str]:
    return [name for name in app if not name.startswith("-")]


@cache
def flags() -> frozenset[str]:
    """All flags of all verbs, from their help."""
    pages = [shell(f"assay {verb} --help", ROOT).stdout for verb in ("", *verbs())]
    return frozenset(flag for page in pages for flag in re.findall(r"--[a-z][a-z-]*", page))


def _without_harness(script: str) -> str:
    """The script without commands whose flags are lm-evaluation-harness's."""
    return re.sub(r"assay lm-eval\b(?:.*\\\n)*.*", "", script)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_and_targets_exist(page: Path) -> None:
    # These pages speak of other tools' flags, too; of commands that aren't run the flags were checked.
    spoken = [] if page.name in ("performance.md", "lm-eval.md") else [prose(page)]
    spoken += [_without_harness(runnable(block)) for block in blocks(page) if block.language == "sh"]
    named = {flag for text in spoken for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    assert named <= flags()
    for target in re.findall(r"`make (\w+)`", prose(page)):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"{page.name}: the Makefile has no target {target}"


def test_every_table_of_the_lens_is_described(demo: Demo) -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", text, re.MULTILINE)
    described = {name: re.findall(r"`(\w+)`", columns) for name, columns in rows}
    with Lens(demo.folder / "build" / "demo") as lens:
        there = {name for (name,) in lens.query("show tables").rows}
        columns = {name: [row[0] for row in lens.query(f"describe {name}").rows] for name in there - {"records"}}
    assert described == columns


def test_the_layers_are_those_of_the_contract() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## Layers")[2].partition("\n## ")[0]
    named = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)]
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    assert named == [re.findall(r"\w+", layer) for layer in contract]


@pytest.mark.parametrize("script", sorted((ROOT / "bench").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_starts(script: Path) -> None:
    if "argparse" in script.read_text(encoding="utf-8"):
        done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("usage: ")


def test_every_dependency_is_explained() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    groups = PROJECT["dependency-groups"].values()
    stated = [
        *PROJECT["project"]["dependencies"],
        *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra),
        *(one for group in groups for one in group if isinstance(one, str)),
    ]
    names = {match[0] for one in stated if (match := re.match(r"[\w.-]+", one))}
    assert not {name for name in names if f"`{name}`" not in text}
