"""Open a model folder with mlx-lm: what must be there, what mlx-lm would get wrong in silence, and who the model is."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from assay.adapters.header import read_header
from assay.errors import CheckpointError, ModelError
from assay.models.memory import check_room, free_memory, stored_bytes

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
WEIGHTS = "model*.safetensors"
# Besides the weights, all that mlx-lm or the tokenizer reads: any of these can change an answer.
BESIDE = ("*.json", "*.jinja", "*.tiktoken", "tokenizer.model", "tiktoken.model", "*.txt", "chat_templates/*")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. `config` is `config.json` as mlx-lm was given it. about: versions, device and type of numbers."""

    model: Any
    tokenizer: Any
    config: Mapping[str, Any]
    about: str
    identity: str


def load(path: Path, memory_limit: int | None = None) -> Loaded:
    """Load a folder of config.json, model*.safetensors and tokenizer. No network. Raises `ModelError`."""
    config = check_folder(path)
    with _quiet():
        _import_mlx()
        _check_memory(path, memory_limit)
        from mlx_lm import utils

        overrides = rope_overrides(config, _argument_names(config))
        try:
            model, final = utils.load_model(path, model_config=overrides)
            tokenizer = utils.load_tokenizer(
                path,
                # The length is checked by the engine, which knows the model's; the tokenizer would only warn.
                {"local_files_only": True, "trust_remote_code": False, "model_max_length": sys.maxsize},
                eos_token_ids=final.get("eos_token_id"),  # generation_config.json's, if it has one
            )
        except Exception as error:  # whatever a damaged or unknown model makes of a loader is the model's fault
            text = " ".join(str(error).split())[:300]
            raise ModelError(f"{path}: mlx-lm can't load this model ({type(error).__name__}: {text})") from error
    versions = f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}"
    about = f"{versions}, {_device()}, {_numbers(path, config)}"
    return Loaded(model, tokenizer, {**config, **overrides}, about, _identity(path, versions))


def _check_memory(path: Path, limit: int | None) -> None:
    """Refuse what does not fit: on a Mac GPU and processor share what there is, and give back what lies idle."""
    import mlx.core as mx

    shared = mx.default_device() == mx.gpu
    room = int(mx.device_info()["memory_size"]) if shared else free_memory()
    where = "this machine has" if shared else "this machine now has free"
    instead = "take a smaller model, or one with fewer bits"
    check_room(path, stored_bytes(weight_files(path)), room, limit, where, instead)


def check_folder(path: Path) -> dict[str, Any]:
    """The folder's `config.json`, once all that a model needs is there. Raises `ModelError` with what to do."""
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; give a folder with config.json, safetensors and a tokenizer")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: has no config.json; give the folder of a whole model") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path / 'config.json'}: can't be read ({error}); fetch the model again") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path / 'config.json'}: names no model_type; fetch the model again")
    weights = weight_files(path)
    if not weights:
        check_pickles(path)
        raise ModelError(f"{path}: has no model*.safetensors; fetch or convert the model's weights")
    if not any((path / name).is_file() for name in _TOKENIZERS):
        raise ModelError(
            f"{path}: has no tokenizer (tokenizer.json or tokenizer.model); copy it from the original model"
        )
    for file in weights:
        try:
            read_header(file)
        except CheckpointError as error:
            raise ModelError(f"the model's weights are damaged: {error}") from None
    return config


def check_pickles(path: Path) -> None:
    """Raise `ModelError` if a folder without safetensors holds pickled weights."""
    if any(any(path.glob(pattern)) for pattern in PICKLES):
        raise ModelError(
            f"{path}: has only pickled weights, which can run code and are refused; convert to safetensors"
        )


def weight_files(path: Path) -> list[Path]:
    """The files that mlx-lm loads, and no others."""
    return sorted(path.glob(WEIGHTS))


def context_length(config: Mapping[str, Any]) -> int | None:
    """How many tokens of prompt and answer the model was made for, where its configuration tells."""
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping) and type(found := part.get("max_position_embeddings")) is int and found > 0:
            return found
    return None


def rope_overrides(config: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Top-level rope settings for the models of mlx-lm that don't read transformers 5's `rope_parameters`.

    Such a model would take its default base in silence, and every logit would be wrong. known: the arguments that
    mlx-lm's model reads. Raises `ModelError` where the setting can't be passed on.
    """
    overrides: dict[str, Any] = {}
    if "rope_parameters" not in known:
        overrides = _flat_rope(config)
        base = overrides.get("rope_theta", 10000)
        if known and "rope_theta" not in known and "text_config" not in known and base != 10000:
            raise ModelError(
                f"mlx-lm's {config['model_type']} model would ignore rope_theta={base} of config.json; use another engine"
            )
    text = config.get("text_config")
    if isinstance(text, Mapping) and (nested := _flat_rope(text)):
        overrides["text_config"] = {**text, **nested}
    return overrides


def _flat_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return {}
    flat: dict[str, Any] = {}
    if isinstance(full := rope.get("full_attention"), Mapping):  # one setting for each type of layer
        if isinstance(sliding := rope.get("sliding_attention"), Mapping) and "rope_theta" in sliding:
            flat["rope_local_base_freq"] = sliding["rope_theta"]
        rope = full
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            flat[name] = rope[name]
    if rope.get("rope_type", "default") != "default":
        flat["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return {name: value for name, value in flat.items() if config.get(name) is None}


def _argument_names(config: Mapping[str, Any]) -> frozenset[str]:
    """What mlx-lm's model of this type reads from config.json; empty where it doesn't tell."""
    from mlx_lm import utils

    try:
        _, arguments = utils._get_classes(dict(config))
    except (AttributeError, ValueError):  # an unknown type is reported by the load itself
        return frozenset()
    return frozenset(f.name for f in fields(arguments)) if is_dataclass(arguments) else frozenset()


def _import_mlx() -> None:
    """Import mlx and mlx-lm, with the settings that must be made before."""
    try:
        version("mlx-cpu")
        # MLX's CPU build for Linux compiles fused kernels with g++ at their first use: seconds of delay each, and a
        # failure where there is no compiler. Its plain kernels give the same answers.
        os.environ.setdefault("MLX_DISABLE_COMPILE", "1")
    except PackageNotFoundError:
        pass
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        import mlx.core  # noqa: F401
        import mlx_lm.utils  # noqa: F401
    except ImportError as error:
        raise ModelError(f"the mlx engine needs mlx and mlx-lm ({error}): pip install 'assay[mlx]'") from None
    finally:  # importing mlx-lm lowers the whole process's limit on open files, which isn't ours to lower
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
        except ValueError:  # the hard limit can't be raised again: up to that then
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(files[0], hard), hard))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from the user's terminal while loading: it advises to install PyTorch, which isn't needed."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        import transformers

        logging = transformers.utils.logging
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
    except ImportError:  # reported by _import_mlx
        logging = None
    try:
        yield
    finally:
        if logging is not None:
            logging.set_verbosity(verbosity)
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _device() -> str:
    import mlx.core as mx

    return "gpu" if mx.default_device() == mx.gpu else "cpu"


def _dtypes(path: Path) -> list[str]:
    """The types of all numbers in the weights, by safetensors' names."""
    return sorted({spec.dtype for file in weight_files(path) for spec in read_header(file).values()})


def _numbers(path: Path, config: Mapping[str, Any]) -> str:
    """The type of the weights' numbers, for people: bits where MLX has quantised them."""
    quantised = config.get("quantization")
    if isinstance(quantised, Mapping) and "bits" in quantised:
        return f"{quantised['bits']}-bit"
    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    return " and ".join(names.get(dtype, dtype) for dtype in _dtypes(path))


def _identity(path: Path, versions: str) -> str:
    """sha256 hex over all that decides the answers: engine, versions, device, types, and every file's bytes."""
    digest = hashlib.sha256()
    digest.update(json.dumps(["mlx", versions, _device(), _dtypes(path)]).encode())
    for name, content in identity_files(path):
        digest.update(json.dumps([name, content]).encode())
    return digest.hexdigest()


def identity_files(path: Path) -> Iterator[tuple[str, str]]:
    """Each file of a model folder that can change an answer, with the sha256 hex of its bytes; weights first."""
    others = {file for pattern in BESIDE for file in path.glob(pattern) if file.is_file()}
    # The shards' index only repeats what the shards say.
    others.discard(path / "model.safetensors.index.json")
    for file in [*weight_files(path), *sorted(others)]:
        with file.open("rb") as opened:
            yield file.relative_to(path).as_posix(), hashlib.file_digest(opened, "sha256").hexdigest()
