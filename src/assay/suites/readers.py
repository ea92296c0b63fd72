"""Files as trees that know where each value stands, so that an error can name its line.

Three formats give the same `Node`s: YAML 1.2 (`no` and `on` are text; tags are refused, so nothing is ever executed),
JSON lines and Parquet. What the values mean is `assay.suites.suite`'s business. All errors are `SuiteError`s.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from assay.errors import SuiteError, at
from assay.plugins import nearest
from assay.types import Json

# A few aliases can stand for billions of values; no suite written by hand comes near this.
MAX_NODES = 1_000_000

_YAML = "tag:yaml.org,2002:"


class Place(msgspec.Struct, frozen=True):
    """Where something stands: a line (from 1) of a text file, or a row (from 1) of a table."""

    path: Path
    line: int | None = None
    row: int | None = None

    def error(self, message: str) -> SuiteError:
        """The error to raise for what stands here: `FILE:LINE: message`."""
        return SuiteError(at(self.path, self.line, message if self.row is None else f"row {self.row}: {message}"))

    def __str__(self) -> str:
        if self.line is not None:
            return f"line {self.line}"
        return f"row {self.row}" if self.row is not None else str(self.path)


class Node(msgspec.Struct, frozen=True):
    """A value and its place; a mapping's values carry the place of their key. `text`: a scalar as it was written."""

    value: Content
    place: Place
    text: str = ""


Content: TypeAlias = bool | int | float | str | Sequence[Node] | Mapping[str, Node] | None


def plain(node: Node) -> Json:
    """The value without its places."""
    match node.value:
        case None | bool() | int() | float() | str() as scalar:
            return scalar
        case Mapping() as mapping:
            return {key: plain(value) for key, value in mapping.items()}
        case items:
            return [plain(item) for item in items]


def read_text(path: Path) -> str:
    """The file's text, which must be UTF-8 (a byte order mark is ignored)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SuiteError(f"{path}: there is no such file") from None
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Place(path, line).error("not UTF-8 text; save the file as UTF-8") from None


def read_yaml(path: Path) -> Node:
    """The one document of a YAML file."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    text = read_text(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor that is defined twice is legal
            root = YAML(typ="safe", pure=True).compose(text)
        if root is None:
            raise SuiteError(f"{path}: the file is empty")
        return _YamlWalk(path).node(root, Place(path, root.start_mark.line + 1))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else None
        raise Place(path, line).error(f"not valid YAML: {error.problem or error.context}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Place(path, line).error("not valid YAML: a control character stands here") from None
    except YAMLError as error:
        raise SuiteError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SuiteError(f"{path}: nested too deeply") from None


class _YamlWalk:
    """Turns the parser's nodes into ours. Values are made here rather than by a YAML constructor: only JSON's kinds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def node(self, source: Any, place: Place) -> Node:
        self.count += 1
        if self.count > MAX_NODES:
            raise place.error(f"more than {MAX_NODES:,} values once its aliases are followed")
        if source.tag == _YAML + "map" and isinstance(source.value, list):
            return Node(self._mapping(source), place)
        if source.tag == _YAML + "seq" and isinstance(source.value, list):
            return Node([self.node(item, self._place(item)) for item in source.value], place)
        return Node(self._scalar(source, place), place, str(source.value))

    def _place(self, source: Any) -> Place:
        return Place(self.path, source.start_mark.line + 1)

    def _mapping(self, source: Any) -> Mapping[str, Node]:
        found: dict[str, Node] = {}
        for key, value in source.value:
            place = self._place(key)
            # "<<" is a merge key only in YAML 1.1; here it is a key that nobody knows.
            if key.tag not in (_YAML + "str", _YAML + "merge", _YAML + "timestamp"):
                raise place.error(f"a key must be text; write it in quotes: {_shown(key.value)}")
            if key.value in found:
                raise place.error(f"the key {key.value!r} stands here and in line {found[key.value].place.line}")
            found[key.value] = self.node(value, place)
        return found

    def _scalar(self, source: Any, place: Place) -> bool | int | float | str | None:
        kind, text = source.tag.removeprefix(_YAML), source.value
        if not isinstance(text, str):
            kind = source.tag
        try:
            match kind:
                case "str" | "timestamp":  # a date is the text that was written
                    return _clean(text, place)
                case "null" if text in ("", "~", "null", "Null", "NULL"):
                    return None
                case "bool" if text.lower() in ("true", "false"):
                    return bool(text.lower() == "true")
                case "int":
                    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
                case "float":
                    return _finite(float(text.replace(".inf", "inf").replace(".nan", "nan")), place)
        except ValueError:
            raise place.error(f"{_shown(text)} is not a value that can be read; write it in quotes") from None
        raise place.error(f"the tag {source.tag.replace(_YAML, '!!')!r} is not allowed; only plain values are")


def read_toml(path: Path) -> Node:
    """A TOML file. Its parser tells no lines, so this is for files of assay's own: read in a fifth of YAML's time."""
    import tomllib

    return _from_python(tomllib.loads(read_text(path)), Place(path))


def read_jsonl(path: Path) -> list[Node]:
    """One JSON object a line; empty lines are skipped. A key whose value is null counts as left out."""
    nodes = []
    # Only "\n" ends a line here: U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = Place(path, number)
        try:
            node = _from_python(json.loads(line, object_pairs_hook=_unique(place)), place)
        except json.JSONDecodeError as error:
            raise place.error(f"not valid JSON: {error.msg} (column {error.colno})") from None
        except RecursionError:
            raise place.error("nested too deeply") from None
        except ValueError:
            raise place.error("not valid JSON: a number with too many digits") from None
        if not isinstance(node.value, Mapping):
            raise place.error(f"each line must be a JSON object, such as {{'id': …, 'prompt': …}}, not {_shown(line)}")
        nodes.append(Node({key: value for key, value in node.value.items() if value.value is not None}, place))
    return nodes


def read_parquet(path: Path) -> list[Node]:
    """One mapping a row. A null counts as left out, also inside structs: a column can't be missing for one row alone."""
    import duckdb

    if not path.is_file():
        raise SuiteError(f"{path}: there is no such file")
    # A path is a glob pattern to the reader; these three are its special characters.
    pattern = "".join(f"[{c}]" if c in "[*?" else c for c in str(path))
    try:
        with duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False}) as connection:
            cursor = connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [pattern])
            names = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchall()
    except duckdb.Error as error:
        first = str(error).strip().splitlines()[0]
        raise SuiteError(f"{path}: cannot be read as Parquet: {first}") from None
    return [
        _from_python(_without_nulls(dict(zip(names, row, strict=True))), Place(path, row=number))
        for number, row in enumerate(rows, start=1)
    ]


READERS: Mapping[str, Callable[[Path], list[Node]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}


def read_samples(path: Path, mentioned: Place) -> list[Node]:
    """The samples of a JSON lines or Parquet file that is named at `mentioned`."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise mentioned.error(f"samples can't be read from {path.name!r}; known endings: {', '.join(READERS)}")
    if not path.is_file():
        raise mentioned.error(f"there is no sample file {path}")
    return reader(path)


def _from_python(value: object, place: Place) -> Node:
    match value:
        case None | bool():
            return Node(value, place, str(value))
        case int():
            return Node(value, place, str(value))
        case float():
            return Node(_finite(value, place), place, repr(value))
        case str():
            return Node(_clean(value, place), place, value)
        case list() | tuple():
            return Node([_from_python(item, place) for item in value], place)
        case dict():
            for key in value:
                if not isinstance(key, str):
                    raise place.error(f"a key must be text, not {key!r}")
            return Node({_clean(key, place): _from_python(item, place) for key, item in value.items()}, place)
    raise place.error(f"a value of type {type(value).__name__} can't be used; store it as text or a number")


def _unique(place: Place) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise place.error(f"the key {key!r} stands twice in this line")
            found[key] = value
        return found

    return build


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _clean(text: str, place: Place) -> str:
    """The text, unless it holds half a surrogate pair, which no UTF-8 file can keep."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise place.error("a text holds half of a surrogate pair, which is not a character") from None
    return text


def _finite(value: float, place: Place) -> float:
    if not math.isfinite(value):
        raise place.error(f"{value} is not a finite number")
    return value


def _shown(value: object) -> str:
    text = str(value).strip()
    return repr(text if len(text) <= 40 else text[:39] + "…")


def builtins(folder: Path) -> dict[str, Path]:
    """The files that come with assay in `folder`, by their bare names, sorted."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".toml")}


def find_named(source: str | Path, folder: Path, kind: str) -> Path:
    """The file that `source` names: a path, or the bare name of one of `folder`'s. Raises `SuiteError` with the nearest name.

    kind: the word for the error message ("suite").
    """
    path = Path(source)
    bare = isinstance(source, str) and path.name == source and path.suffix not in (".yaml", ".yml")
    known = builtins(folder)
    if bare and source in known:
        return known[str(source)]
    if bare and not path.is_file():
        hint = nearest(str(source), tuple(known))
        raise SuiteError(f"there is no {kind} {source!r}, neither a file nor a built-in one; {hint}")
    return path
