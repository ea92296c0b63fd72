"""One exception tree; each class knows the exit code that the command line ends with.

AssayError                   1  done, but something failed
├── BadInput                 2  the user's input, named by one sentence
│   ├── ConfigError             assay.toml, environment, flags
│   ├── SuiteError              a suite file
│   ├── WorkspaceError          the results folder: unwritable, held by another watch, a newer schema
│   ├── UnknownName             a name that no registry knows
│   ├── ModelError              a model that is missing, broken, or needs what is not installed
│   └── UnsupportedOption       an option that this engine cannot honour
├── Unreachable              3  something needed could not be reached; what was earned is kept
├── DiskFault                3  the disk takes no more; what was earned is kept
├── HostFault                1  a path on a host that is missing, forbidden, or changed under the copy
├── CheckpointError          1  a fault of one checkpoint; the others go on
│   ├── NotReady                still being written, or waiting for its configuration
│   ├── AdapterBroken           truncated for good, or not what it says it is
│   ├── AdapterMismatch         keys or shapes that do not fit the base (all differences listed)
│   └── EngineKilled            the engine died under it twice
└── GenerationError          1  a model failed in mid-answer; carries what it had generated
    └── EngineDied              the engine's process ended under it
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:  # `assay --help` needs the errors alone
    from assay.types import FailureClass

# What the system says where there is no room: the disk is full, or a quota, or the file as large as it may be.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

HostFaultKind: TypeAlias = Literal["missing", "forbidden", "changed", "full", "other"]


class AssayError(Exception):
    """Base of everything assay raises on purpose. `str(error)` is one clear sentence for the user."""

    exit_code: ClassVar[int] = 1


class BadInput(AssayError):
    """The user's input is wrong: what, where, and what to do."""

    exit_code: ClassVar[int] = 2


class ConfigError(BadInput):
    """assay.toml, an environment variable or a flag is wrong."""


class SuiteError(BadInput):
    """A suite file is wrong."""


class WorkspaceError(BadInput):
    """The workspace cannot be used."""


class Absent(BadInput):
    """A folder or a host is not there: the user's mistake, unless it has been there before and may come back."""


class UnknownName(BadInput):
    """A name that no registry knows; the message offers the nearest one."""


class ModelError(BadInput):
    """A model cannot be opened."""


class UnsupportedOption(BadInput):
    """The engine cannot honour an option that was asked for. `option` names it where that is told."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class Unreachable(AssayError):
    """Something that the work needs could not be reached."""

    exit_code: ClassVar[int] = 3


class DiskFault(AssayError):
    """The disk takes no more of what is to be written here."""

    exit_code: ClassVar[int] = 3


class HostFault(AssayError):
    """Something about one path on a host. `kind` says what, for those who must decide what it means for them.

    "missing": nothing is there. "forbidden": no permission. "changed": it changed while it was copied. "full": no room where
    it was to be written. "other": the message says.
    """

    def __init__(self, message: str, kind: HostFaultKind = "other") -> None:
        super().__init__(message)
        self.kind: HostFaultKind = kind


class CheckpointError(AssayError):
    """One checkpoint cannot be evaluated."""


class NotReady(CheckpointError):
    """The checkpoint is still being written."""


class AdapterBroken(CheckpointError):
    """The adapter's files are damaged or are not a LoRA adapter."""


class AdapterMismatch(CheckpointError):
    """The adapter does not fit the base; `differences` holds every differing key and shape."""

    def __init__(self, message: str, differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.differences: tuple[str, ...] = tuple(differences)


class EngineKilled(CheckpointError):
    """The engine's process ended under this checkpoint, and once more when it was asked the same again."""


class GenerationError(AssayError):
    """Generation failed. `partial` is what had been generated; `error_class` says whether asking again can help."""

    def __init__(self, message: str, *, partial: str = "", error_class: FailureClass = "permanent") -> None:
        super().__init__(message)
        self.partial = partial
        self.error_class: FailureClass = error_class


class EngineDied(GenerationError):
    """The process that ran the engine ended in mid-answer."""

    def __init__(self, message: str, *, partial: str = "", error_class: FailureClass = "transient") -> None:
        super().__init__(message, partial=partial, error_class=error_class)


def at(path: Path | str, line: int | None, message: str) -> str:
    """`FILE:LINE: message`, the way compilers say where."""
    return f"{path}:{line}: {message}" if line is not None else f"{path}: {message}"
