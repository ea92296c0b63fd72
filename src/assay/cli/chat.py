"""`assay chat`: talk to a model in the terminal, and switch its adapter in mid-talk."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from assay.adapters.named import adapter_at
from assay.cli import termination
from assay.cli.attaching import attach
from assay.cli.generate import OptionFlags, cost, options_of
from assay.cli.http import HttpFlags, with_flags
from assay.cli.settings import ConfigFile, settings
from assay.errors import AssayError, BadInput
from assay.models.base import TextModel, complete
from assay.models.open import open_model
from assay.types import Chunk, Completion, GenerateOptions, Message

_HELP = """\
/adapter PATH    answer under this adapter from now on; /adapter off  under none
/system TEXT     begin anew with this system message; /system off  with none
/clear           begin anew
/quit            leave; Ctrl-D as well
A line that ends with a backslash goes on in the next one; so does what stands between two lines of three double quotes.
Ctrl-C stops an answer; what was said of it stays."""


def chat(
    model: str,
    /,
    *,
    adapter: Path | None = None,
    system: str | None = None,
    options: OptionFlags = None,
    http: HttpFlags = None,
    config: ConfigFile = None,
) -> int:
    """Talk to a model in the terminal. /help shows what can be said to assay itself. Nothing is journaled.

    Parameters
    ----------
    model
        A folder, a .gguf file, ENGINE:PATH, or a URL with #MODEL.
    adapter
        An adapter's folder, or its .safetensors or .gguf file; /adapter switches it.
    system
        A system message before the talk.
    """
    found = with_flags(settings(config, None), http, model)
    named = found.model(model)
    tuned = None if adapter is None else adapter_at(adapter)
    with asyncio.Runner() as runner:
        base = runner.run(open_model(named.spec, named.settings, http=named.http, adapters=named.adapters))
        try:
            talk = _Talk(runner, base, options_of(options), system)
            if tuned is not None:
                talk.model = runner.run(attach(base, tuned))
            talk.go_on()
        finally:
            runner.run(base.aclose())
    return 0


class _Line(NamedTuple):
    """What was typed; `ended` where nothing more will be."""

    text: str
    ended: bool = False


class _Talk:
    """One conversation. model: who answers now."""

    def __init__(self, runner: asyncio.Runner, base: TextModel, options: GenerateOptions, system: str | None) -> None:
        self.model = base
        self._runner = runner
        self._base = base
        self._options = options
        self._system = system
        self._said: list[Message] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "/adapter": self._switch,
            "/system": self._begin_with,
            "/clear": lambda _: self._clear(),
            "/help": lambda _: print(_HELP),
        }

    def go_on(self) -> None:
        """Ask and answer until the user leaves."""
        if sys.stdin.isatty():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # line editing and history, for `input`
            print(f"{self.model.info.name}; /help shows what else there is, Ctrl-D leaves")
        while True:
            line = _read()
            word, _, rest = line.text.strip().partition(" ")
            if word == "/quit":
                return
            if word in self._commands:
                self._told(self._commands[word], rest.strip())
            elif word.startswith("/") and "\n" not in line.text:
                print(f"there is no {word}; /help shows what there is")
            elif word:
                self._told(self._answer, line.text)
            if line.ended:
                return

    def _told(self, act: Callable[[str], None], rest: str) -> None:
        """Do it; what goes wrong is said, and the talk goes on. Ctrl-C ends what is done; SIGTERM ends the talk."""
        try:
            act(rest)
        except KeyboardInterrupt:
            if termination.came():
                raise
            print("\n(stopped)")
        except AssayError as error:
            print(f"assay: {error}", file=sys.stderr)

    def _answer(self, text: str) -> None:
        self._said.append(Message("user", text))
        said: list[str] = []
        try:
            last = self._runner.run(self._stream(said))
            print(f"\n{cost(last, self._options.max_tokens)}" if sys.stdout.isatty() else "")
        except AssayError:
            self._said.pop()
            if said:
                print()
            raise
        except KeyboardInterrupt:
            self._said.append(Message("assistant", "".join(said)))
            raise
        self._said.append(Message("assistant", "".join(said)))

    async def _stream(self, said: list[str]) -> Completion:
        first = [Message("system", self._system)] if self._system else []

        def printed(chunk: Chunk) -> None:
            said.append(chunk.text)
            print(chunk.text, end="", flush=True)

        return await complete(self.model, [*first, *self._said], self._options, printed)

    def _switch(self, rest: str) -> None:
        if not rest:
            raise BadInput("/adapter needs a folder or a file, or off")
        new = self._base if rest == "off" else self._runner.run(attach(self._base, adapter_at(Path(rest).expanduser())))
        former, self.model = self.model, new
        if former is not self._base:
            self._runner.run(former.aclose())
        print("without an adapter" if new is self._base else f"under the adapter in {rest}")

    def _begin_with(self, rest: str) -> None:
        if not rest:
            raise BadInput("/system needs a text, or off")
        self._system = None if rest == "off" else rest
        self._clear()

    def _clear(self) -> None:
        self._said.clear()
        print("begun anew")


def _read() -> _Line:
    """What the user typed, over several lines if he says so."""
    shown = sys.stdin.isatty()
    lines: list[str] = []
    quoted = False
    while True:
        try:
            line = input(("… " if lines or quoted else "> ") if shown else "")
        except EOFError:
            if shown:
                print()
            return _Line("\n".join(lines), ended=True)
        except KeyboardInterrupt:  # of a terminal: the line is given up, and not the talk
            if not shown or termination.came():
                raise
            print("\n(Ctrl-D leaves)")
            return _Line("")
        if line.strip() == '"""':
            if quoted:
                return _Line("\n".join(lines))
            quoted = True
        elif quoted:
            lines.append(line)
        elif line.endswith("\\"):
            lines.append(line[:-1])
        else:
            return _Line("\n".join([*lines, line]))
