"""Fetch a model from the hub into its cache, by huggingface_hub: only when a user asks, and only what an engine reads of it.

The token is huggingface_hub's own (`HF_TOKEN`, or what `hf auth login` has kept); `HF_ENDPOINT` and `HF_HUB_OFFLINE` hold too.
A connection that breaks is taken up where it was; a command that was ended leaves the files that had come whole.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from assay.errors import NO_ROOM, AssayError, BadInput, DiskFault, ModelError, Unreachable
from assay.models.hub import SHOWN, HubName, choose_gguf, hub_cache, models_among, shards_of, size_text
from assay.models.mlx_load import BESIDE, PICKLES, WEIGHTS


@dataclass(frozen=True, slots=True)
class Wanted:
    """The files of a model that are to be fetched, with their sizes. commit: what `name`'s revision is by now."""

    name: HubName
    commit: str
    files: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(self.files.values())

    @property
    def about(self) -> str:
        count = f"{len(self.files)} file{'s' if len(self.files) > 1 else ''}"
        return f"{replace(self.name, revision=self.commit[:SHOWN])}: {count}, {size_text(self.size)}"


def wanted(name: HubName, engine: str) -> Wanted:
    """Ask the hub which files the model has. engine: "" takes safetensors where there are some, else the GGUF.

    Raises `ModelError` for a model that isn't there, isn't for this user or can't be run; `Unreachable`.
    """
    with _told(name):
        from huggingface_hub import HfApi

        found = HfApi(library_name="assay").model_info(name.repo, revision=name.revision or None, files_metadata=True)
    sizes = {each.rfilename: each.size or 0 for each in found.siblings or ()}
    chosen = _chosen(sizes, name, engine)
    return Wanted(name, str(found.sha), {file: sizes[file] for file in chosen})


def fetch(wanted: Wanted) -> Path:
    """Fetch what isn't here yet; the snapshot's folder. Raises as `wanted`, and `BadInput` or `DiskFault` without room."""
    name = wanted.name
    cache = hub_cache()
    snapshot = cache / f"models--{name.repo.replace('/', '--')}" / "snapshots" / wanted.commit
    left = sum(size for file, size in wanted.files.items() if not (snapshot / file).exists())
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if left > free:
        raise BadInput(
            f"{name.repo} needs {size_text(left)}, and {cache} has room for {size_text(free)}; set HF_HUB_CACHE"
        )
    with _told(name):
        from huggingface_hub import hf_hub_download

        for file in wanted.files:  # one after the other on this thread: Ctrl-C must not wait for threads that read
            hf_hub_download(name.repo, file, revision=name.revision or None, library_name="assay")
    lacking = [file for file, size in wanted.files.items() if not _has(snapshot / file, size)]
    if lacking:  # huggingface_hub is content with an older commit where the hub goes away, or has another one by now
        raise Unreachable(
            f"{name.repo} did not come whole ({lacking[0]} is missing); the same command goes on from here"
        )
    return snapshot


def _chosen(files: Mapping[str, int], name: HubName, engine: str) -> Sequence[str]:
    weights = [file for file in files if PurePosixPath(file).match(WEIGHTS) and "/" not in file]
    ggufs = models_among(files)
    if engine == "llama" or name.part or (not engine and not weights and ggufs):
        return shards_of(choose_gguf(files, name, "on the hub"), list(files))
    if weights:
        beside = [file for file in files if any(_matches(file, pattern) for pattern in BESIDE)]
        return [*beside, *weights]
    if any(_matches(file, pattern) for file in files for pattern in PICKLES):
        raise ModelError(
            f"{name.repo} has only pickled weights, which can run code and are refused; name a repository with safetensors"
        )
    instead = (
        f"; it has GGUF files: take llama:{name.repo}" if ggufs else "; name a repository with safetensors or GGUF"
    )
    raise ModelError(f"{name.repo} has no {WEIGHTS}{instead}")


def _matches(file: str, pattern: str) -> bool:
    return PurePosixPath(file).match(pattern) and file.count("/") == pattern.count("/")


def _has(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


@contextmanager
def _told(name: HubName) -> Iterator[None]:
    """What huggingface_hub raises, as one sentence."""
    try:
        _quiet()
        yield
    except AssayError:
        raise
    except ImportError as error:
        raise ModelError(f"fetching from the hub needs huggingface_hub ({error}): pip install 'assay[hub]'") from None
    except Exception as error:  # a library's own, its HTTP client's, the system's
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise DiskFault(f"{hub_cache()}: {error.strerror}; make room, and the same command goes on") from None
        raise _fault(name, error) from error


def _quiet() -> None:
    import huggingface_hub.utils as hub

    hub.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        hub.disable_progress_bars()


def _fault(name: HubName, error: Exception) -> AssayError:
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", 0)
    text = " ".join(str(error).split())[:200]
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ModelError("HF_HUB_OFFLINE is set, so nothing is fetched; unset it, or copy the model here yourself")
    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            f"{name.repo} is gated: accept its terms on its page, and log in with hf auth login or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{name.repo} has no revision {name.revision or 'main'}; name a branch, a tag or a commit")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub has no model {name.repo}, or not for you; check the name, and for a private one log in with hf auth "
            "login or set HF_TOKEN"
        )
    if status in (401, 403):
        return ModelError(f"the hub refuses {name.repo} ({status}); check the token: hf auth login, or HF_TOKEN")
    if 400 <= status < 500 and status not in (408, 429):
        return ModelError(f"the hub does not give {name.repo}: {text}")
    return Unreachable(
        f"{name.repo} can't be fetched now ({type(error).__name__}: {text}); files that came whole are kept, and the same "
        "command goes on"
    )
