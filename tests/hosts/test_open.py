"""From what a user types to a host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from assay.errors import BadInput
from assay.hosts.local import LocalHost
from assay.hosts.open import open_host
from tests.hosts.sshd import Home

PAGE = Path(__file__).parent.parent.parent / "docs" / "hosts.md"


def test_a_plain_path_is_on_this_machine(home: Home, tmp_path: Path) -> None:
    for text, path in {
        "runs/a": "runs/a",
        "/runs/a": "/runs/a",
        str(tmp_path): str(tmp_path),
        "~/runs": f"{home.folder}/runs",
        ".": ".",
        "with spaces; and more": "with spaces; and more",
        "C": "C",
    }.items():
        host, found = open_host(text)
        assert isinstance(host, LocalHost)
        assert host.name == ""
        assert found == PurePosixPath(path)


def test_a_path_with_a_colon_that_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "host:runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_host("host:runs")[0], LocalHost)


def test_an_address_is_on_another_machine(home: Home) -> None:
    home.configure("Host trainer\n  HostName Trainer.Example.org\n  User ann\n  Port 2222\n")
    host, path = open_host("ssh://trainer/runs/a%20b")
    assert (host.name, path) == ("ssh://ann@trainer.example.org:2222", PurePosixPath("/runs/a b"))
    host, path = open_host("ssh://bob@[::1]/~/runs")
    assert (host.name, path) == ("ssh://bob@[::1]:22", PurePosixPath("runs"))


def test_match_final_has_the_last_word(home: Home) -> None:
    home.configure("Host trainer\n  HostName 192.0.2.7\nMatch final host 192.0.2.7\n  User ann\n")
    assert open_host("ssh://trainer/runs")[0].name == "ssh://ann@192.0.2.7:22"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sftp://trainer/runs", "sftp:// is no scheme"),
        ("file:///runs", "file:// is no scheme"),
        ("s3://bucket/runs", "s3:// is no scheme"),
        ("", "an empty path"),
        ("ann@trainer:runs/a", "write ssh://ann@trainer/~/runs/a"),
        ("trainer:/runs/a", "write ssh://trainer/runs/a"),
        ("trainer:", "write ssh://trainer/~"),
        ("ssh://trainer", "names no folder"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(home: Home, text: str, why: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_host(text)
    assert why in str(caught.value)


def test_without_an_ssh_client_the_extra_is_named(tmp_path: Path) -> None:
    """In an interpreter that finds no asyncssh."""
    script = (
        "import sys\nsys.path[:] = [p for p in sys.path if 'site-packages' not in p]\nsys.meta_path[:] = [\n"
        "    f for f in sys.meta_path if 'editable' not in str(f)]\n"
        "from assay.hosts.open import open_host\nopen_host('/x')\n"
        "try:\n    open_host('ssh://trainer/x')\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PYTHONPATH": str(Path(__file__).parent.parent.parent / "src"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = "BadInput ssh://trainer/x needs an SSH client, which is not installed; pip install 'assay[ssh]'\n"
    assert done.stdout == said


def test_the_page_says_what_is_said() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").replace("\n> ", " ").split())
    source = (PAGE.parent.parent / "src" / "assay" / "hosts" / "known_hosts.py").read_text(encoding="utf-8")
    for words in ("is not known: ", "compare this fingerprint with the machine's own, and accept it "):
        assert words in page
        assert words in source
