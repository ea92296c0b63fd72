"""Models by their hub's id, `org/name`: what such a name says, and where this machine's cache of the hub has it. No network.

The cache is the one that huggingface_hub, transformers and mlx-lm share: `models--org--name` holds `refs/main`, a file that
names a commit, and `snapshots/COMMIT`, a folder of links to the files themselves.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from assay.errors import ModelError

_WORD = r"[A-Za-z0-9][\w.-]*"
_ID = re.compile(rf"({_WORD}/{_WORD})(?:@([\w./-]+))?(?::(.+))?")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
# A GGUF that is split into several files is named by its first; a projector for images is no model of its own.
_NO_MODEL = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$|(^|/)mmproj[^/]*$", re.IGNORECASE)
_FIRST = re.compile(r"(.*)-00001(-of-\d{5}\.gguf)")
_SHARD = re.compile(r"(.*)-\d{5}-of-(\d{5})(\.safetensors|\.gguf)")
# What is read of a snapshot and fetched again where its link leads nowhere, as a cache leaves it that was pruned.
_READ = ("*.json", "*.jinja", "*.model", "model*.safetensors")
SHOWN = 12  # digits of a commit


@dataclass(frozen=True, slots=True)
class HubName:
    """`org/name[@REVISION][:PART]`. revision: a branch, a tag or a commit. part: which GGUF, its file's name or its quant."""

    repo: str
    revision: str = ""
    part: str = ""

    def __str__(self) -> str:
        return self.repo + (f"@{self.revision}" if self.revision else "") + (f":{self.part}" if self.part else "")


def hub_name(text: str) -> HubName | None:
    """What the text names on a hub; None if it can't be a hub's id. A path may look like one, so look for a path first."""
    match = _ID.fullmatch(text)
    if match is None or match[1].lower().endswith(".gguf") or ".." in text:
        return None
    return HubName(match[1], match[2] or "", match[3] or "")


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it has fetched, by the variables that it reads."""
    environ = os.environ
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    place = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(place)).expanduser()


def cached(name: HubName, spec: str) -> Path:
    """The snapshot folder of the model. Raises `ModelError` that says how to fetch `spec` where it isn't here."""
    folder = _folder(name.repo)
    commit = _commit(folder, name.revision or "main")
    if commit is not None and (folder / "snapshots" / commit).is_dir():
        return folder / "snapshots" / commit
    others = sorted(each.name[:SHOWN] for each in folder.glob("snapshots/*"))
    if others and not name.revision:
        raise ModelError(
            f"the hub's cache has no main of {name.repo}, but {' and '.join(others[:3])}; name one, as "
            f"{replace(name, revision=others[0])}, or fetch it: assay fetch {spec}"
        )
    raise ModelError(
        f"there is no folder {name}, and the hub's cache, {hub_cache()}, does not hold it; if it is a hub's id, fetch it: "
        f"assay fetch {spec}"
    )


def check_whole(snapshot: Path, name: HubName, spec: str) -> None:
    """Raise `ModelError` for a snapshot of which files are missing that a folder of safetensors needs."""
    index = snapshot / "model.safetensors.index.json"
    size = ""
    missing = [] if (snapshot / "config.json").is_file() else ["config.json"]
    try:
        told = json.loads(index.read_text(encoding="utf-8"))
        missing += sorted(file for file in set(told["weight_map"].values()) if not (snapshot / file).is_file())
        size = f", of {told['metadata']['total_size'] / 1e9:.1f} GB in all"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # one file of weights, or an index that is no such thing: the engine looks at what is there
    links = {file.name for pattern in _READ for file in snapshot.glob(pattern) if not file.is_file()}
    shards = {shard for file in _files(snapshot, "*.safetensors") for shard in _all_shards(file.name)}
    missing += sorted((links | {each for each in shards if not (snapshot / each).is_file()}) - set(missing))
    if not _files(snapshot, "*.safetensors") and not any(snapshot.glob("*.bin")) and len(missing) < 2 and not links:
        missing.append("the weights")
    _check_none(missing, name, spec, size)


def _check_none(missing: Sequence[str], name: HubName, spec: str, size: str = "") -> None:
    if missing:
        more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
        raise ModelError(
            f"the hub's cache has {name.repo} only in part ({', '.join(missing[:2])}{more} missing{size}); fetch the rest: "
            f"assay fetch {spec}"
        )


def cached_models() -> list[tuple[HubName, Path]]:
    """The models of the cache that have weights which assay reads, each at what its main was when it was fetched."""
    found: list[tuple[HubName, Path]] = []
    for folder in sorted(hub_cache().glob("models--*--*")):
        name = HubName(folder.name.removeprefix("models--").replace("--", "/", 1))
        commit = _commit(folder, "main")
        if commit is None:
            continue
        snapshot = folder / "snapshots" / commit
        if _files(snapshot, "*.safetensors") and (snapshot / "config.json").is_file():
            found.append((name, snapshot))
        ggufs = [file for file in models_among(_ggufs(snapshot)) if (snapshot / file).is_file()]
        found += [(replace(name, part=file), snapshot / file) for file in ggufs]
    return found


def gguf_of(snapshot: Path, name: HubName, spec: str) -> Path:
    """The GGUF file of the snapshot that the name means, of which nothing is missing. Raises `ModelError`."""
    file = choose_gguf(_ggufs(snapshot), name, "in the hub's cache")
    _check_none([shard for shard in _all_shards(file) if not (snapshot / shard).is_file()], name, spec)
    return snapshot / file


def choose_gguf(files: Iterable[str], name: HubName, where: str) -> str:
    """The one of a repository's GGUF files that the name means, the first of a split one. Raises `ModelError`.

    files: paths within the repository. where: what the error says of the place.
    """
    models = models_among(files)
    chosen = [file for file in models if _is_meant(file, name.part)]
    if len(chosen) == 1:
        return chosen[0]
    if not models:
        raise ModelError(f"{name.repo} has no GGUF file {where}; name another repository, or another engine")
    shown = ", ".join((chosen or models)[:6]) + (", …" if len(chosen or models) > 6 else "")
    what = f"{len(chosen)} GGUF files" if chosen else f"no GGUF file {name.part!r}"
    example = replace(name, part=PurePosixPath((chosen or models)[0]).name)
    raise ModelError(f"{name.repo} has {what} {where} ({shown}); name the one you mean, such as llama:{example}")


def models_among(files: Iterable[str]) -> list[str]:
    """The GGUF files that are models, of a split one the first."""
    return sorted(file for file in files if file.endswith(".gguf") and not _NO_MODEL.search(file))


def shards_of(file: str, files: Sequence[str]) -> list[str]:
    """The file, and all other shards of it."""
    first = _FIRST.fullmatch(file)
    if first is None:
        return [file]
    return [each for each in files if each.startswith(f"{first[1]}-") and each.endswith(first[2])]


def _all_shards(file: str) -> list[str]:
    """The files that a model consists of by the name of one of them."""
    shard = _SHARD.fullmatch(file)
    if shard is None:
        return [file]
    return [f"{shard[1]}-{number:05}-of-{shard[2]}{shard[3]}" for number in range(1, int(shard[2]) + 1)]


def size_text(size: int) -> str:
    """A size for people."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _is_meant(file: str, part: str) -> bool:
    """Whether `part` is the file's path, its name, or a word of them, as `Q4_K_M` is of `model-Q4_K_M.gguf`."""
    if not part or part in (file, PurePosixPath(file).name):
        return True
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(part)}(?=[-./]|$)", file, re.IGNORECASE) is not None


def _files(snapshot: Path, pattern: str) -> list[Path]:
    """What is there, and not only a link that leads nowhere."""
    return [file for file in snapshot.glob(pattern) if file.is_file()]


def _ggufs(snapshot: Path) -> list[str]:
    return [file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*.gguf")]


def _folder(repo: str) -> Path:
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def _commit(folder: Path, revision: str) -> str | None:
    """The commit that the revision is here: a ref's, or the one that begins with these digits."""
    try:
        return (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        pass
    if _COMMIT.fullmatch(revision) is None:
        return None
    found = [each.name for each in folder.glob(f"snapshots/{revision}*")]
    return found[0] if len(found) == 1 else None
