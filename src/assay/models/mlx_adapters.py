"""LoRA adapters on a model that mlx-lm has loaded once: held in memory, swapped between generations.

The base's own modules are never changed. Adapters of one structure (ranks, scales, layers, keys) share one set of LoRA
modules around them, made by mlx-lm; a swap within a structure puts other arrays into that set, and for the bare base
the base's modules are put back, so that nothing of an adapter is left in the computation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.adapters.bases import check_embeddings
from assay.adapters.fit import needs_gguf, raise_differences
from assay.errors import AdapterBroken, GenerationError
from assay.types import Adapter


@dataclass(frozen=True, slots=True)
class Structure:
    """What decides which modules mlx-lm puts in. `keys`: paths within a block, or from the model's root.

    own: as in `Adapter`: module, rank, scale.
    """

    rank: int
    scale: float
    layers: int
    keys: tuple[str, ...]
    own: tuple[tuple[str, int, float], ...]


Modules = Mapping[str, Any]  # module path -> mlx module
Arrays = Mapping[str, Any]  # tensor name -> mlx array
_LEAVES = ("lora_a", "lora_b")


class AdapterSlots:
    """The resident adapters of one model and which of them is in place. One thread only."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._layer_paths = _layer_paths(model)
        self._tied = not any(path.rpartition(".")[2] == "lm_head" for path, _ in model.named_modules())
        self._sets: dict[Structure, Modules] = {}
        self._plain: dict[Structure, Modules] = {}
        self._resident: dict[str, tuple[Structure, Arrays]] = {}
        self._installed: Structure | None = None
        self._current: str | None = None

    def make_resident(self, adapters: Sequence[Adapter]) -> None:
        """Hold exactly these. Raises `AdapterMismatch` or `AdapterBroken`, after which all is as it was."""
        resident: dict[str, tuple[Structure, Arrays]] = {}
        made: dict[Structure, tuple[Modules, Modules]] = {}
        for adapter in adapters:
            if adapter.digest in self._resident:
                resident[adapter.digest] = self._resident[adapter.digest]
                continue
            needs_gguf(adapter)
            if adapter.input_only:
                check_embeddings((name.rpartition(".")[0] for name in adapter.tensors), tied=self._tied)
            structure = self._structure(adapter)
            if structure not in self._sets and structure not in made:
                made[structure] = self._make(structure)
            modules = self._sets[structure] if structure in self._sets else made[structure][1]
            resident[adapter.digest] = structure, _load(adapter, modules)
        # From here on nothing can fail.
        if self._current is not None and self._current not in resident:
            self.use(None)
        for structure, (plain, modules) in made.items():
            self._plain[structure], self._sets[structure] = plain, modules
        self._resident = resident
        used = {structure for structure, _ in resident.values()}
        for structure in [s for s in self._sets if s not in used]:
            del self._sets[structure], self._plain[structure]

    def use(self, digest: str | None) -> None:
        """Put this adapter in place, or the bare base. Arrays are references: nothing is copied."""
        if digest == self._current and (digest is not None or self._installed is None):
            return
        if digest is None:
            self._remove()
            return
        if digest not in self._resident:
            raise GenerationError(f"the adapter {digest[:12]} is not resident; attach it first")
        structure, arrays = self._resident[digest]
        modules = self._sets[structure]
        if self._installed != structure:
            self._remove()
        self._current = None  # neither, until all is done
        for path, module in modules.items():
            module.lora_a, module.lora_b = arrays[f"{path}.lora_a"], arrays[f"{path}.lora_b"]
        if self._installed != structure:
            _put(self._model, modules)
            self._installed = structure
        self._current = digest

    def _remove(self) -> None:
        if self._installed is not None:
            _put(self._model, self._plain[self._installed])
        self._installed = self._current = None

    def _structure(self, adapter: Adapter) -> Structure:
        keys = set()
        for name in adapter.tensors:
            parts = name.split(".")[:-1]
            inside = adapter.layers != 0  # else modules are named from the root, which mlx-lm takes for these alone
            block = next(
                (i for i in range(len(parts), 0, -1) if inside and ".".join(parts[:i]) in self._layer_paths), 0
            )
            keys.add(".".join(parts[block:]))
        own = tuple((module, *size) for module, size in sorted(adapter.own.items()))
        return Structure(adapter.rank, adapter.scale, adapter.layers, tuple(sorted(keys)), own)

    def _make(self, structure: Structure) -> tuple[Modules, Modules]:
        """mlx-lm's LoRA modules for a structure and the base's modules in their places; the model stays as it is."""
        from mlx_lm.tuner.utils import linear_to_lora_layers

        installed, current = self._installed, self._current
        self._remove()  # else mlx-lm would put LoRA layers around LoRA layers
        before = dict(self._model.named_modules())
        after: dict[str, Any] = {}
        # Dropout is for training; mlx-lm requires the key.
        parameters = {
            "rank": structure.rank,
            "scale": structure.scale,
            "dropout": 0.0,
            "keys": list(structure.keys),
        }
        try:
            linear_to_lora_layers(self._model, structure.layers, parameters)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AdapterBroken(
                f"mlx-lm can't put LoRA layers of rank {structure.rank} into this base: {error}"
            ) from error
        finally:
            after = {
                path: module
                for path, module in self._model.named_modules()
                if "lora_a" in module and before.get(path) is not module
            }
            plain = {path: before[path] for path in after}
            _put(self._model, plain)
            if installed is not None:
                _put(self._model, self._sets[installed])
                self._installed, self._current = installed, current
        for path, rank, scale in structure.own:
            if path in after:  # else `_load` says that the base has no such layer
                _resize(after[path], rank, scale)
        for module in after.values():
            module.eval()
        return plain, after


def _resize(module: Any, rank: int, scale: float) -> None:
    """Give one of mlx-lm's LoRA modules, over a linear layer or an embedding, another rank and scale."""
    import mlx.core as mx

    if module.lora_a.ndim != 2:
        raise AdapterBroken("it has ranks or scales of single modules, which can't be put into this base's experts")
    module.lora_a = mx.zeros((module.lora_a.shape[0], rank))
    module.lora_b = mx.zeros((rank, module.lora_b.shape[1]))
    module.scale = scale


def _layer_paths(model: Any) -> frozenset[str]:
    """The paths of the model's blocks (`model.layers.0`, …), which mlx-lm's keys are relative to."""
    blocks = {id(layer) for layer in model.layers}
    return frozenset(path for path, module in model.named_modules() if id(module) in blocks)


def _put(model: Any, modules: Modules) -> None:
    from mlx.utils import tree_unflatten

    if modules:
        model.update_modules(tree_unflatten(list(modules.items())))


def _embeddings(modules: Modules) -> list[str]:
    """Those that mlx-lm multiplies out before anything of the base's comes in: in the adapter's own type, however short."""
    from mlx_lm.tuner.lora import LoRAEmbedding

    return [path for path, module in modules.items() if isinstance(module, LoRAEmbedding)]


def _load(adapter: Adapter, modules: Modules) -> Arrays:
    """The adapter's arrays in memory, once names and shapes are exactly those of the modules."""
    import mlx.core as mx

    try:
        arrays: Any = mx.load(str(adapter.weights), format="safetensors")
    except (RuntimeError, ValueError, OSError) as error:
        raise AdapterBroken(f"{adapter.weights}: mlx can't load it ({error}); fetch it again") from error
    wanted = {f"{path}.{leaf}": tuple(module[leaf].shape) for path, module in modules.items() for leaf in _LEAVES}
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    differences = [f"{name}: names no layer of the base" for name in sorted(found.keys() - wanted.keys())]
    differences += [f"{name}: missing in the adapter" for name in sorted(wanted.keys() - found.keys())]
    differences += [
        f"{name}: shape {found[name]}, but the base wants {wanted[name]}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name] != wanted[name]
    ]
    raise_differences(differences, len(found), all_strange=found.keys().isdisjoint(wanted))
    for path in _embeddings(modules):
        arrays |= {name: arrays[name].astype(mx.float32) for name in (f"{path}.{leaf}" for leaf in _LEAVES)}
    mx.eval(list(arrays.values()))  # now, not at first use: the file may be gone by then
    return dict(arrays)
