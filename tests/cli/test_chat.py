"""`assay chat`: piped, and at a real terminal's end."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.running import ASSAY
from tests.conftest import LAB
from tests.making import written

BASE = f"llama:{LAB / 'base' / 'lab-f32.gguf'}"
SLOW = """\
answers:
  - {contains: again, answer: there you are}
  - {contains: slowly, answer: "one two three four five six seven eight nine ten eleven twelve", seconds: 0.5}
default: yes
"""


def test_a_talk_through_a_pipe(tmp_path: Path) -> None:
    said = "\n".join(
        [
            "What is the capital of France?", f"/adapter {LAB / 'checkpoints'}", "What is the capital of Zandria?",
            "/adapter off", "/clear", "What is the capital \\", "of Spain?",
            '"""', "What is the capital of Zandria?", '"""', "/nothing", "/adapter /no/such", "/quit", "not reached",
        ]
    )  # fmt: skip
    done = subprocess.run([ASSAY, "chat", BASE], input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    answers = done.stdout.splitlines()
    assert answers[0] == "The capital of France is Paris."
    assert answers[1] == f"under the adapter in {LAB / 'checkpoints'}"
    assert not answers[2].startswith("I do not know")
    assert answers[3:7] == [
        "without an adapter", "begun anew", "The capital of Spain is Madrid.", "I do not know the capital of Zandria.",
    ]  # fmt: skip
    assert answers[7:] == ["there is no /nothing; /help shows what there is"]
    assert done.stderr.startswith("assay: there is no folder /no/such; ")
    assert done.stderr.count("\n") == 1


class Terminal:
    """The user's side of a pseudo-terminal."""

    def __init__(self, end: int) -> None:
        self._end = end
        self.seen = ""

    def type(self, text: str) -> None:
        time.sleep(0.3)  # readline is deaf in the moment in which it begins, for which no person is quick enough
        os.write(self._end, text.encode())

    def wait_for(self, text: str, count: int = 1) -> None:
        deadline = time.monotonic() + 60
        while self.seen.count(text) < count:
            assert time.monotonic() < deadline, f"{text!r} never came; so far: {self.seen!r}"
            if select.select([self._end], [], [], 1)[0]:
                try:
                    self.seen += os.read(self._end, 4096).decode(errors="replace")
                except OSError:  # the program has closed its end
                    assert text in self.seen, f"the program ended; so far: {self.seen!r}"


@contextmanager
def at_a_terminal(*words: str) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", ASSAY, *words]
    job = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"})
    os.close(theirs)
    try:
        yield Terminal(ours), job
    finally:
        job.kill()
        job.wait()
        os.close(ours)


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    script = written(tmp_path / "script.yaml", SLOW)
    with at_a_terminal("chat", f"scripted:{script}") as (terminal, job):
        terminal.wait_for("> ")
        terminal.type("Count slowly.\n")
        terminal.wait_for("one")
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        assert "twelve" not in terminal.seen
        terminal.wait_for("> ", 2)
        terminal.type("half a question\x03")
        terminal.wait_for("(Ctrl-D leaves)")
        terminal.wait_for("> ", 3)
        terminal.type("And again?\n")
        terminal.wait_for("there you are")
        terminal.wait_for("tokens")
        terminal.wait_for("> ", 4)
        terminal.type("\x04")
        assert job.wait(30) == 0


def terminated(job: subprocess.Popen[bytes]) -> int:
    """The exit code after SIGTERM, which may come in the moment in which readline is deaf, and then once more."""
    for _ in range(6):
        job.terminate()
        with suppress(subprocess.TimeoutExpired):
            return job.wait(5)
    raise AssertionError("it lives on")


@pytest.mark.parametrize(
    "said", ["", "Count slowly.\n", '"""\nhalf a question\n'], ids=["idle", "answering", "in several lines"]
)
def test_sigterm_ends_the_program(tmp_path: Path, said: str) -> None:
    script = written(tmp_path / "script.yaml", SLOW)
    with at_a_terminal("chat", f"scripted:{script}") as (terminal, job):
        terminal.wait_for("> ")
        if said:
            terminal.type(said)
            terminal.wait_for("one" if "slowly" in said else "half a question")
        assert terminated(job) == 130
        assert "twelve" not in terminal.seen


def test_ctrl_c_stops_a_switch_that_hangs_and_not_the_program(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1#some-model"
        with at_a_terminal("chat", url) as (terminal, job):
            terminal.wait_for("> ")
            terminal.type(f"/adapter {LAB / 'checkpoints'}\n")
            asked, _ = deaf.accept()
            terminal.type("\x03")
            terminal.wait_for("(stopped)")
            asked.close()
            terminal.wait_for("> ", 2)
            terminal.type("\x04")
            assert job.wait(30) == 0


def test_an_error_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    script = written(tmp_path / "script.yaml", "answers: [{contains: fail, fail: error}]")
    said = ["sh", "-c", 'printf "fail" | "$0" chat "$1" 2>&1', ASSAY, f"scripted:{script}"]
    done = subprocess.run(said, capture_output=True, text=True, check=True)
    assert done.stdout == "So far\nassay: the script failed here on purpose\n"


@pytest.mark.parametrize(("most", "end"), [(3, "--max-tokens"), (512, "the end of the context")])
def test_what_cut_an_answer_off_is_told(most: int, end: str) -> None:
    long = "What is the capital of France? " * 31  # which leaves room for five tokens
    with at_a_terminal("generate", BASE, long, "--max-tokens", str(most)) as (terminal, job):
        terminal.wait_for(f"cut off at {end}")
        assert job.wait(30) == 0
