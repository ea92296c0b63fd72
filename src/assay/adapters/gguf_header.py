"""The header of a GGUF file: its metadata and its tensors' shapes, read without touching the weights.

The `gguf` package's reader makes an object of every token of the vocabulary, which takes seconds for a large one; here
arrays are stepped over and only their lengths are kept.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from assay.errors import ModelError

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself.

    values: the scalar metadata. lengths: how many elements each metadata array has. shapes: the tensors' shapes, slowest
    dimension first, as numpy writes them: (out, in) for a matrix.
    """

    values: Mapping[str, str | int | float | bool]
    lengths: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    def integer(self, key: str) -> int | None:
        """The metadata integer `{architecture}.{key}`, None if there is none or it differs from layer to layer."""
        value = self.values.get(f"{self.architecture}.{key}")
        return value if type(value) is int else None


def gguf_files(path: Path) -> list[Path]:
    """The file, or all shards of a model that is split into `NAME-00001-of-00003.gguf`, …; the first one first.

    Raises `ModelError` if a shard is missing.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    name, _, count = match.groups()
    files = [path.with_name(f"{name}-{number:05d}-of-{count}.gguf") for number in range(1, int(count) + 1)]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{path}: its shard {file.name} is missing; fetch the model again")
    return files


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file, of all its shards if it is split. Raises `ModelError`."""
    values: dict[str, str | int | float | bool] = {}
    lengths: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in reversed(gguf_files(path)):  # the first shard has the last word on the metadata
        try:
            with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                cursor = Cursor(data, file)
                tensors = cursor.begin()
                cursor.metadata(values, lengths)
                shapes.update((name, tensor.shape) for name, tensor in cursor.tensors(tensors).items())
        except OSError as error:
            raise ModelError(f"{file}: the file can't be read ({error.strerror or error})") from None
        except (struct.error, ValueError, IndexError):  # an empty file can't be mapped; a short one ends too soon
            raise ModelError(f"{file}: not a whole GGUF file; fetch or convert it again") from None
    return GgufHeader(values, lengths, shapes)


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor as the header has it. kind: ggml's number of its type. offset: where it begins, from the data's beginning."""

    shape: tuple[int, ...]
    kind: int
    offset: int


class Cursor:
    """Reads a GGUF file, mapped or its first bytes, from its beginning. Numbers are little-endian.

    Bytes that end too soon raise `struct.error`, `ValueError` or `IndexError`.
    """

    def __init__(self, data: mmap.mmap | bytes, path: PurePath) -> None:
        self._data = data
        self._path = path
        self._at = 0
        self._pairs = 0

    def begin(self) -> int:
        """Check what kind of file it is; return how many tensors it holds."""
        if self._data[:4] != b"GGUF":
            raise ModelError(f"{self._path}: not a GGUF file; convert the model to GGUF, or choose another engine")
        self._at = 4
        version = self._number("<I")
        if version not in (2, 3):
            raise ModelError(f"{self._path}: GGUF version {version} is not supported; convert the model again")
        tensors = self._number("<Q")
        self._pairs = self._number("<Q")
        return tensors

    def metadata(self, values: dict[str, str | int | float | bool], lengths: dict[str, int]) -> None:
        for _ in range(self._pairs):
            key, kind = self._string(), self._number("<I")
            if kind == _ARRAY:
                lengths[key] = self._skip_array()
            elif kind == _STRING:
                values[key] = self._string()
            else:
                values[key] = self._scalar(_format(kind))

    def tensors(self, count: int) -> dict[str, GgufTensor]:
        found: dict[str, GgufTensor] = {}
        for _ in range(count):
            name = self._string()
            dimensions = [self._number("<Q") for _ in range(self._number("<I"))]
            shape = tuple(reversed(dimensions))  # GGUF writes the fastest dimension first
            found[name] = GgufTensor(shape, self._number("<I"), self._number("<Q"))
        return found

    @property
    def at(self) -> int:
        """How many bytes have been read."""
        return self._at

    def _scalar(self, form: str) -> int | float | bool:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        assert isinstance(value, (int, float, bool))
        return value

    def _number(self, form: str) -> int:
        return int(self._scalar(form))

    def _string(self) -> str:
        length = self._number("<Q")
        end = self._at + length
        if end > len(self._data):
            raise ValueError("the file ends within a string")
        text = self._data[self._at : end].decode("utf-8", errors="replace")
        self._at = end
        return text

    def _skip_array(self) -> int:
        kind, length = self._number("<I"), self._number("<Q")
        if kind == _ARRAY:
            raise ValueError("an array of arrays")
        if kind != _STRING:
            self._at += length * struct.calcsize(_format(kind))
            return length
        read, data, at = struct.Struct("<Q").unpack_from, self._data, self._at
        for _ in range(length):
            at += 8 + read(data, at)[0]
        self._at = at
        return length


def _format(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"unknown metadata type {kind}")
    return _SCALARS[kind]
