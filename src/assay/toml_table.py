"""A TOML file whose faults are told with their line: its tables, and the kinds of values that they hold."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from assay.errors import ConfigError, at
from assay.plugins import nearest


class TomlFile:
    """A file, parsed. Raises `ConfigError` where it can't be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent
        try:
            self.text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigError(at(path, line, "not UTF-8 text; save the file as UTF-8")) from None
        try:
            self._values = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(self._syntax(str(error))) from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None

    def root(self, known: Sequence[str]) -> Table:
        """The top level. known: the keys that it may have."""
        return Table(self, self._values, known)

    def _syntax(self, message: str) -> str:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
        if found is None:
            return at(self.path, None, f"not valid TOML: {message}")
        line = int(found[2]) if found[2] else self.text.rstrip("\n").count("\n") + 1
        return at(self.path, line, f"not valid TOML: {found[1][:1].lower()}{found[1][1:]}")

    def line(self, keys: Sequence[str]) -> int | None:
        return line_of(self.text, keys)


class Table:
    """A table that says, with its line, what is wrong with a value. A key that is not there gives None."""

    def __init__(self, file: TomlFile, values: Any, known: Sequence[str] | None, path: tuple[str, ...] = ()) -> None:
        self.file, self.path = file, path
        if not isinstance(values, dict):
            raise ConfigError(at(file.path, file.line(path), f"{'.'.join(path)} must be a table, not {values!r}"))
        self.values: dict[str, Any] = values
        where = f"[{'.'.join(path)}]" if path else "the top level"
        for key in values:
            if known is not None and key not in known:
                self.refuse(key, f"unknown key {key!r} in {where}; {nearest(key, known)}")

    def refuse(self, key: str, message: str) -> NoReturn:
        raise ConfigError(at(self.file.path, self.file.line((*self.path, key)), message))

    def wrong(self, key: str, wanted: str) -> NoReturn:
        self.refuse(key, f"{'.'.join((*self.path, key))} must be {wanted}, not {self.values[key]!r}")

    def table(self, key: str, known: Sequence[str] | None) -> Table:
        return Table(self.file, self.values.get(key, {}), known, (*self.path, key))

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not (isinstance(value, str) and value.strip()):
            self.wrong(key, "text that is not empty")
        return value

    def program(self, key: str) -> str | None:
        """A path, made absolute, or a command that PATH finds."""
        value = self.text(key)
        if value is None or not (os.sep in value or value.startswith("~")):
            return value
        return os.path.normpath(self.file.folder / expanded(value))

    def texts(self, key: str) -> Sequence[str]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            self.wrong(key, 'a list of texts, such as ["lab.yaml"]')
        return value

    def whole(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            self.wrong(key, "a whole number of at least 1")
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            self.wrong(key, "a number of seconds above 0")
        return float(value)

    def size(self, key: str, least: int) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        size = parse_size(value) if isinstance(value, str) else value
        if isinstance(size, bool) or not isinstance(size, int) or size < least:
            self.wrong(key, f"a size of at least {least} bytes, such as 8000000000, '8GB' or '512MiB'")
        return size


def expanded(text: str | Path) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{text}: there is no such home directory") from None


def parse_size(text: str) -> int | None:
    """Bytes of a size such as "4GB" (10⁹) or "512MiB" (2²⁰), in any letter case; None if it is no whole number of them."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?) ?(?:([kmgt])(i?))?b?", text.strip(), re.IGNORECASE | re.ASCII)
    if found is None:
        return None
    power = "kmgt".index(found[2].lower()) + 1 if found[2] else 0
    size = Decimal(found[1]) * (1024 if found[3] else 1000) ** power
    return int(size) if size == int(size) else None


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """The line, from 1, where valid TOML first names `keys`, a path of keys; None if it never does.

    The parser keeps no positions, so it is asked: the key stands where the last part of the file begins without which
    the key isn't there. A prefix that ends within a value doesn't parse and is passed over. Quadratic, and only run for
    an error.
    """
    lines = [line + "\n" for line in text.split("\n")]
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            found: Any = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:
            return begin + 1
        begin = end
    return None
