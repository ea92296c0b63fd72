"""A large file's digest is computed once, and again whenever the file is another."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from assay.models.file_digest import file_digest


def digest(path: Path, folder: Path, settled: float = 0.0) -> str:
    return file_digest(path, folder, least=4, settled=settled)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"content")
    return path


def test_it_is_remembered_and_taken_from_there(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "digests"
    assert digest(file, folder) == sha256(b"content")
    (entry,) = folder.iterdir()
    entry.write_text(sha256(b"told apart from a new reading"))
    assert digest(file, folder) == sha256(b"told apart from a new reading")
    link = tmp_path / "link"
    link.symlink_to(file)
    assert digest(link, folder) == sha256(b"told apart from a new reading"), "a snapshot's link is its blob"
    entry.write_text("cut off")
    assert digest(file, folder) == sha256(b"content")
    assert entry.read_text() == sha256(b"content")


def test_a_file_that_was_rewritten_under_its_old_date_is_read_again(file: Path, tmp_path: Path) -> None:
    before = file.stat()
    digest(file, tmp_path / "digests")
    time.sleep(0.05)  # longer than a tick of the clock that files are dated by
    with file.open("r+b") as opened:
        opened.write(b"CONTENT")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert digest(file, tmp_path / "digests") == sha256(b"CONTENT")


def test_another_file_in_its_place_is_read(file: Path, tmp_path: Path) -> None:
    digest(file, tmp_path / "digests")
    other = tmp_path / "other"
    other.write_bytes(b"CONTENT")
    other.replace(file)
    assert digest(file, tmp_path / "digests") == sha256(b"CONTENT")


def test_what_changed_a_moment_ago_and_what_is_small_is_not_remembered(file: Path, tmp_path: Path) -> None:
    assert digest(file, tmp_path / "digests", settled=60) == sha256(b"content")
    assert file_digest(file, tmp_path / "digests", settled=0) == sha256(b"content")
    assert not (tmp_path / "digests").exists()


def test_without_a_place_to_remember_it_is_read_each_time(file: Path, tmp_path: Path) -> None:
    (tmp_path / "digests").write_text("a file where the folder would be")
    assert digest(file, tmp_path / "digests") == digest(file, tmp_path / "digests") == sha256(b"content")


def test_it_is_in_the_users_cache(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert file_digest(file, least=4, settled=0) == sha256(b"content")
    assert len(list((tmp_path / "xdg" / "assay" / "digests").iterdir())) == 1
