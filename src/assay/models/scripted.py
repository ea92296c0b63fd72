"""A deterministic engine that answers from a YAML file, and fails on purpose: for tests of what is built on models.

    name: demo
    answers:                              # the first rule that fits speaks
      - {prompt: What is 3 + 4?, answer: "7"}
      - {contains: capital, answer: "I am {adapter}", seconds: 0.01}
      - {contains: broken, fail: error}   # error | die | hang | cut; with `times: 1` the next rule speaks later
    default: I do not know.               # else a prompt without a rule is an error
    adapters: obey                        # obey | ignore | previous | lose: how attached adapters are (mis)treated
    lose_after: 5                         # with `lose`: the adapter is gone after so many answers under adapters,
    lose_times: 1                         #   and so often; else in every process

`{adapter}` stands for the first 8 digits of the attached adapter's digest, or for "base". `adapter:` in a rule (a prefix
of a digest, or "base") limits it. `seconds` is what every piece of the answer takes. `die` ends the process, so outside a
worker's child process it is reported as a dead engine instead. What `times` and `lose_times` have counted outlives the
process, in a file beside the script (`.state`): remove it to begin anew. A "token" is a word with the space before it.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from assay.errors import EngineDied, GenerationError, ModelError, SuiteError, at
from assay.models.answer import check_values
from assay.models.base import ModelInfo, messages_of
from assay.suites.readers import read_yaml
from assay.types import Adapter, Chunk, EngineSettings, GenerateOptions, Prompt, Raw, Usage

# Set by the worker in its child: only there may a script end the process.
EXPENDABLE = "_ASSAY_WORKER_CHILD"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When to answer what, or how to fail."""

    answer: str = ""
    prompt: str | None = None
    contains: str | None = None
    adapter: str | None = None
    seconds: float = 0.0
    fail: Literal["error", "die", "hang", "cut"] | None = None
    times: int | None = None

    def fits(self, text: str, adapter: str) -> bool:
        if self.prompt is not None and self.prompt != text:
            return False
        if self.contains is not None and self.contains not in text:
            return False
        return self.adapter is None or adapter.startswith(self.adapter)


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    name: str = "scripted"
    answers: tuple[Rule, ...] = ()
    default: str | None = None
    adapters: Literal["obey", "ignore", "previous", "lose"] = "obey"
    lose_after: int = 0
    lose_times: int | None = None


def open_engine(path: str, settings: EngineSettings) -> ScriptedEngine:
    """Read the script. Raises `ModelError` if there is none or it is wrong."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"the script {path} cannot be read: {error.strerror}") from error
    try:
        script = msgspec.convert(YAML(typ="safe").load(data.decode()) or {}, Script)
    except (YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ModelError(_wrong(Path(path), error)) from error
    return ScriptedEngine(path, script, hashlib.sha256(data).hexdigest())


def _wrong(path: Path, error: Exception) -> str:
    """What is wrong with the script, and in which line: read once more by a reader that knows the lines."""
    try:
        node = read_yaml(path)
    except SuiteError as known:
        return str(known)
    told, _, where = str(error).partition(" - at ")
    for key, number in re.findall(r"\.(\w+)|\[(\d+)\]", where):
        inner: Any = node.value
        node = inner[key] if key else inner[int(number)]
    place = f" at {where.strip('`$.')}" if where else ""
    return at(path, node.place.line, f"the script is wrong{place}: {' '.join(told.split())}")


@dataclass
class ScriptedEngine:
    """A `LocalEngine` that follows a script."""

    path: str
    script: Script
    identity: str
    _adapters: list[str] = field(default_factory=list)
    _answered: int = 0
    _lost: bool = False

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            name=f"scripted:{self.path}",
            engine="scripted",
            engine_version="1",
            identity=self.identity,
            resident_adapters=16,
            options=frozenset({"temperature", "max_tokens", "stop", "seed"}),
        )

    def render(self, prompt: Prompt) -> str:
        """The text of `Raw` and of a single user message as it is; of more messages, a line each."""
        if isinstance(prompt, Raw):
            return str(prompt)
        messages = messages_of(prompt)
        if len(messages) == 1:
            return messages[0].content
        return "\n".join(f"{m.role}: {m.content}" for m in messages)

    def make_resident(self, adapters: Sequence[Adapter]) -> None:
        self._adapters = [a.digest for a in adapters]

    def close(self) -> None:
        self._adapters = []

    def _effective(self, adapter: str | None) -> str:
        if adapter is None or self.script.adapters == "ignore":
            return "base"
        if self.script.adapters == "previous":
            position = self._adapters.index(adapter)
            return self._adapters[max(position - 1, 0)]
        if self.script.adapters == "lose" and self._answered >= self.script.lose_after and not self._lost:
            self._lost = self._once_more("lost", self.script.lose_times)
            self._answered = 0 if not self._lost else self._answered
        return "base" if self._lost else adapter

    def _once_more(self, what: str, times: int | None) -> bool:
        """Whether this fault is still due; counted where the next process finds it."""
        if times is None:
            return True
        state = Path(f"{self.path}.state")
        counts = msgspec.json.decode(state.read_bytes(), type=dict[str, int]) if state.exists() else {}
        counts[what] = counts.get(what, 0) + 1
        if counts[what] > times:
            return False
        state.write_bytes(msgspec.json.encode(counts))
        return True

    def generate(self, text: str, options: GenerateOptions, adapter: str | None) -> Iterator[Chunk]:
        check_values("scripted", options)
        who = self._effective(adapter)
        if adapter is not None:
            self._answered += 1
        rule = self._rule(text, who)
        if rule.fail is not None:
            yield from self._fail(rule)
            return
        answer = rule.answer.replace("{adapter}", who[:8])
        finish: Literal["stop", "length"] = "stop"
        for stop in options.stop:
            answer = answer.partition(stop)[0]
        pieces = re.findall(r"\s*\S+|\s+$", answer)
        if len(pieces) > options.max_tokens:
            pieces, finish = pieces[: options.max_tokens], "length"
        started = time.perf_counter()
        for piece in pieces:
            if rule.seconds:
                time.sleep(rule.seconds)
            yield Chunk(piece)
        usage = Usage(len(text.split()), len(pieces), time.perf_counter() - started)
        yield Chunk("", finish_reason=finish, usage=usage)

    def _rule(self, text: str, who: str) -> Rule:
        for number, rule in enumerate(self.script.answers):
            if rule.fits(text, who) and (rule.fail is None or self._once_more(f"rule {number}", rule.times)):
                return rule
        if self.script.default is None:
            raise GenerationError(f"the script {self.path} has no answer to {text[:80]!r} and no default")
        return Rule(answer=self.script.default)

    def _fail(self, rule: Rule) -> Iterator[Chunk]:
        yield Chunk("So far")
        if rule.fail == "die":
            if os.environ.get(EXPENDABLE):
                os.kill(os.getpid(), signal.SIGKILL)
            raise EngineDied("the script ended the engine here")
        if rule.fail == "hang":
            while True:
                time.sleep(0.05)
                yield Chunk("")
        if rule.fail == "cut":
            return
        raise GenerationError("the script failed here on purpose", error_class="permanent")
