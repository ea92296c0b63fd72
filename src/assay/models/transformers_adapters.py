"""LoRA adapters on a transformers model by PEFT: many resident at once, chosen row by row of a batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from assay.adapters.bases import check_embeddings
from assay.adapters.fit import check_against
from assay.adapters.module_names import has_text_model, in_transformers, stored
from assay.adapters.peft_writing import sizes
from assay.errors import AdapterBroken
from assay.types import Adapter

_BASE = "__base__"  # PEFT's name for a row without an adapter


class PeftSlots:
    """The resident adapters of one model. One thread only."""

    def __init__(self, model: Any) -> None:
        self._model = model
        weights = model.state_dict()
        within = has_text_model(weights)
        self._shapes = {stored(name, within=within): tuple(weight.shape) for name, weight in weights.items()}
        kinds = "Linear", "Embedding"
        self._adaptable = {name for name, module in model.named_modules() if type(module).__name__ in kinds}
        output = model.get_output_embeddings()
        self._tied = output is not None and output.weight is model.get_input_embeddings().weight
        self._tuner: Any = None
        self._resident: set[str] = set()

    def __contains__(self, digest: str) -> bool:
        return digest in self._resident

    def make_resident(self, adapters: Sequence[Adapter]) -> None:
        """Hold exactly these. Raises `AdapterMismatch` or `AdapterBroken`, after which all is as it was."""
        wanted = {adapter.digest: adapter for adapter in adapters}
        fresh = [adapter for digest, adapter in wanted.items() if digest not in self._resident]
        read = [(adapter, self._read(adapter)) for adapter in fresh]
        # From here on nothing of an adapter's can fail.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that another one becomes active, which decides nothing here
            for digest in self._resident - wanted.keys():
                self._tuner.delete_adapter(digest)
        for adapter, tensors in read:
            self._put(adapter, tensors)
        self._resident = set(wanted)

    def using(self, digests: Sequence[str | None]) -> AbstractContextManager[object]:
        """Within it, row n of a batch goes under adapter n; None is the bare base."""
        if self._tuner is None:
            return nullcontext()
        names = [digest or _BASE for digest in digests]
        found: AbstractContextManager[object] = self._tuner._enable_peft_forward_hooks(adapter_names=names)
        return found

    def _read(self, adapter: Adapter) -> dict[str, Any]:
        """The tensors by module and side, once they are known to fit."""
        from safetensors.torch import load_file

        check_against(adapter, self._shapes)
        modules = sorted({name.rpartition(".")[0] for name in adapter.tensors})
        check_embeddings(modules, tied=self._tied and not adapter.input_only)
        strange = [module for module in modules if in_transformers(module) not in self._adaptable]
        if strange:
            raise AdapterBroken(
                f"{adapter.weights}: the transformers engine adapts linear layers and embeddings only, not "
                f"{', '.join(strange[:3])}; take another engine for this adapter"
            )
        try:
            return dict(load_file(adapter.weights))
        except Exception as error:
            raise AdapterBroken(f"{adapter.weights}: torch can't read it ({error})") from error

    def _put(self, adapter: Adapter, tensors: dict[str, Any]) -> None:
        import torch
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel

        modules = sorted({in_transformers(name.rpartition(".")[0]) for name in tensors})
        one = {"r": adapter.rank, "lora_alpha": adapter.scale * adapter.rank}
        each = {module: adapter.size(module) for module in (name.rpartition(".")[0] for name in tensors)}
        config = LoraConfig(
            **(sizes(each, stabilised=False) if adapter.own else one),
            target_modules=modules,
            lora_dropout=0.0,
            bias="none",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an embedding is the output as well: it is known what is adapted
            if self._tuner is None:
                self._tuner = LoraModel(self._model, {adapter.digest: config}, adapter.digest)
            else:
                self._tuner.peft_config[adapter.digest] = config
                self._tuner.inject_adapter(self._model, adapter.digest)
        self._tuner.requires_grad_(False).eval()
        with torch.no_grad():
            for name, tensor in tensors.items():
                module, _, leaf = name.rpartition(".")
                layer = self._model.get_submodule(in_transformers(module))
                weight = _side(layer, leaf[-1].upper(), adapter.digest)
                weight.copy_(tensor.T.to(weight.dtype))


def _side(layer: Any, side: str, digest: str) -> Any:
    """PEFT's parameter for one side of a layer's pair; it keeps those of embeddings apart."""
    embedding = getattr(layer, f"lora_embedding_{side}")
    return embedding[digest] if digest in embedding else getattr(layer, f"lora_{side}")[digest].weight
