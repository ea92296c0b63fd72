"""A LoRA adapter as PEFT writes it: `adapter_model.safetensors` with PEFT's own `adapter_config.json`.

PEFT keeps `lora_A` as (rank, in) and `lora_B` as (out, rank), the transposes of mlx-lm's, and scales by lora_alpha / r, or by
lora_alpha / √r for rank-stabilised LoRA (Kalajdzievski 2023, arXiv 2312.03732), with ranks and alphas of single modules where
it was told so. What the product of two matrices can't say is refused by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from assay.adapters.fit import EMBEDDINGS
from assay.adapters.header import Layout, read_layout
from assay.adapters.lora import FLOATS, Lora, Part
from assay.adapters.mlx_files import write_mlx
from assay.adapters.module_names import has_text_model, in_transformers, stored
from assay.errors import AdapterBroken, NotReady
from assay.types import TensorSpec

_PREFIX = "base_model.model."
_PAIR = re.compile(r"(.+)\.lora_(?:([AB])(?:\.default)?\.weight|embedding_([AB])(?:\.default)?)")
_BASE_LAYER = re.compile(r"base_model\.model\.(.*(?:embed_tokens|lm_head))(?:\.base_layer)?\.weight")
_BLOCK = re.compile(r"(?:.*\.)?layers\.(\d+)\..+")
# What makes it more than a product of two matrices, by the values that mean "not used".
_UNUSED: Mapping[str, tuple[object, ...]] = {
    "use_dora": (None, False),
    "modules_to_save": (None, []),
    "fan_in_fan_out": (None, False),
    "lora_bias": (None, False),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "use_qalora": (None, False),
    "corda_config": (None,),
    "alora_invocation_tokens": (None, []),
    "kasa_config": (None,),
    "arrow_config": (None,),
    "use_bdlora": (None, False),
    "monteclora_config": (None,),
    "ensure_weight_tying": (None, False),
}
_MERGE = "merge it into its base with PEFT's merge_and_unload, and name what is saved then as a model"
# Ways to begin that change the base's own weights, by how PEFT names them: the adapter alone doesn't make up for it.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def normalise(weights: Path, config: Path, shown_weights: PurePath, shown_config: PurePath) -> None:
    """Rewrite both files in place, in mlx-lm's form, or our own like it where modules differ.

    One tensor is in memory at a time. shown_weights, shown_config: what errors call them. Raises `AdapterBroken` for what is
    no LoRA adapter, or more than one; `NotReady` for a file that is cut off.
    """
    lora = read_peft(weights, config, shown_weights, shown_config)
    if lora.carried:
        raise AdapterBroken(carries(lora))
    target = weights.with_suffix(".mlx")
    write_mlx(lora, target, config, lora.tensors, lora.base, input_only=lora.input_only)
    target.replace(weights)


def patterns(lora: Lora) -> str:
    """The names of the settings by which the modules of an adapter differ in rank or scale."""
    ranks = lora.ranks
    divisors = {module: math.sqrt(rank) if lora.stabilised else rank for module, rank in ranks.items()}
    alphas = [lora.scales[module] * divisor for module, divisor in divisors.items()]
    used = {
        "rank_pattern": len(set(ranks.values())) > 1,
        "use_rslora": lora.stabilised and len(set(ranks.values())) > 1,
        "alpha_pattern": not math.isclose(min(alphas), max(alphas), rel_tol=1e-9),
    }
    return " and ".join(name for name, is_used in used.items() if is_used)


def read_peft(weights: Path, config: Path, shown_weights: PurePath, shown_config: PurePath) -> Lora:
    """The adapter in these two files. Raises as `normalise`."""
    settings = _settings(config, shown_config)
    try:
        with weights.open("rb") as file:
            layout = read_layout(file, shown_weights)
    except FileNotFoundError:
        raise NotReady(f"{shown_weights}: the file is not there (yet); training may still be writing it") from None
    within = has_text_model(name.removeprefix(_PREFIX) for name in layout.tensors)
    carried = _carried(layout, within=within)
    parts = _parts(layout, carried, shown_weights, within=within)
    modules = sorted({name.rpartition(".")[0] for name in parts})
    ranks, scales = {}, {}
    for module in modules:
        ranks[module], scales[module] = _rank_and_scale(settings, in_transformers(module), shown_config)
    _check_ranks(parts, ranks, shown_weights)
    base = settings.get("base_model_name_or_path")
    return Lora(
        weights,
        shown_weights,
        parts,
        ranks,
        scales,
        _layers(modules, settings),
        base if isinstance(base, str) else "",
        stabilised=bool(settings.get("use_rslora")),
        carried=dict(carried.values()),
        input_only=any(module.rpartition(".")[2] in EMBEDDINGS for module in ranks),
    )


def carries(lora: Lora) -> str:
    """Why an adapter that carries weights of the base can't be taken as it is."""
    return (
        f"{lora.shown}: holds weights of the base itself ({min(lora.carried)}), which PEFT saves where embeddings are adapted "
        "or resized; save it with save_embedding_layers=False, or have assay convert compare them with those of --base"
    )


def _settings(config: Path, shown: PurePath) -> dict[str, Any]:
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterBroken(f"{shown}: can't be read as JSON ({error})") from None
    if not isinstance(settings, dict) or "peft_type" not in settings:
        raise AdapterBroken(f"{shown}: has no peft_type, so it is no configuration of PEFT's")
    if settings["peft_type"] != "LORA":
        raise AdapterBroken(
            f"{shown}: peft_type {settings['peft_type']!r} is not supported; only LORA can be evaluated"
        )
    used = [name for name, unused in _UNUSED.items() if settings.get(name) not in unused]
    if settings.get("bias", "none") != "none":
        used.append("bias")
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        used.append(f"init_lora_weights {start!r}")
    if used:
        raise AdapterBroken(
            f"{shown}: uses {', '.join(used)}, which can't be evaluated; only plain LoRA and rsLoRA can: {_MERGE}"
        )
    return settings


def _rank_and_scale(settings: Mapping[str, Any], module: str, shown: PurePath) -> tuple[int, float]:
    rank = _own(settings, "rank_pattern", module, settings.get("r"), shown)
    alpha = _own(settings, "alpha_pattern", module, settings.get("lora_alpha"), shown)
    if type(rank) is not int or rank < 1:
        raise AdapterBroken(f"{shown}: r must be a positive whole number, not {rank!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise AdapterBroken(f"{shown}: lora_alpha must be a number, not {alpha!r}")
    return rank, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _own(settings: Mapping[str, Any], setting: str, module: str, default: Any, shown: PurePath) -> Any:
    """What a pattern says of this module, as PEFT reads it: the first key that is, or matches, the end of its path."""
    pattern = settings.get(setting) or {}
    if not isinstance(pattern, dict):
        raise AdapterBroken(f"{shown}: {setting} must be a mapping of modules, not {pattern!r}")
    for key, value in pattern.items():
        try:
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        except re.error:
            raise AdapterBroken(f"{shown}: {setting} has the key {key!r}, which is no regular expression") from None
    return default


def _carried(layout: Layout, *, within: bool) -> dict[str, tuple[str, Part]]:
    """Weights of the base by the file's names, each with the base's name for it."""
    found: dict[str, tuple[str, Part]] = {}
    for name, spec in layout.tensors.items():
        if (match := _BASE_LAYER.fullmatch(name)) is not None and spec.dtype in FLOATS:
            found[name] = f"{stored(match[1], within=within)}.weight", Part(spec, *layout.spans[name])
    return found


def _parts(layout: Layout, carried: Container[str], shown: PurePath, *, within: bool) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for name, spec in layout.tensors.items():
        if name in carried:
            continue
        match = _PAIR.fullmatch(name.removeprefix(_PREFIX))
        if match is None or not name.startswith(_PREFIX):
            dora = f", but of DoRA: {_MERGE}" if "lora_magnitude_vector" in name else ""
            raise AdapterBroken(
                f"{shown}: the tensor {name} is no part of a LoRA over linear layers or embeddings{dora}"
            )
        if len(spec.shape) != 2:
            raise AdapterBroken(
                f"{shown}: the tensor {name} has the shape {spec.shape}; a linear layer's LoRA has two dimensions"
            )
        ours = f"{stored(match[1], within=within)}.lora_{(match[2] or match[3]).lower()}"
        if ours in parts:
            raise AdapterBroken(f"{shown}: two of its tensors are of one layer")
        turned = TensorSpec((spec.shape[1], spec.shape[0]), spec.dtype)
        parts[ours] = Part(turned, *layout.spans[name], turned=True)
    return parts


def _check_ranks(parts: Mapping[str, Part], ranks: Mapping[str, int], shown: PurePath) -> None:
    """Raise `AdapterBroken` unless the pairs are whole, and of the ranks that the configuration says."""
    for name, part in sorted(parts.items()):
        module, _, leaf = name.rpartition(".")
        other = f"{module}.{'lora_b' if leaf == 'lora_a' else 'lora_a'}"
        found = part.spec.shape[1 if leaf == "lora_a" else 0]
        if other not in parts:
            raise AdapterBroken(f"{shown}: {module} has only one half of its pair")
        if found != ranks[module]:
            raise AdapterBroken(f"{shown}: {module} has the rank {found}, and the configuration says {ranks[module]}")


def _layers(modules: Iterable[str], settings: Mapping[str, Any]) -> int:
    """As in `Adapter`: 0 where the configuration chooses among blocks, so that it is these and no others.

    Else how many of the last ones are adapted; -1 if the first is, and so perhaps all: `check_against` sees what is missing.
    """
    targets = settings.get("target_modules")
    named = isinstance(targets, list) and any(_BLOCK.fullmatch(str(target)) for target in targets)
    pattern = isinstance(targets, str) and targets != "all-linear"
    if named or pattern or settings.get("layers_to_transform") is not None or settings.get("exclude_modules"):
        return 0
    blocks = {int(match[1]) for module in modules if (match := _BLOCK.fullmatch(module)) is not None}
    if not blocks or 0 in blocks:
        return -1
    return max(blocks) - min(blocks) + 1
