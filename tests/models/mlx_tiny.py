"""A random Llama small enough to write in milliseconds, and random adapters for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from assay.adapters.files import read_adapter
from assay.types import Adapter

HIDDEN, LAYERS, VOCAB, HEADS, INNER = 32, 4, 300, 4, 48
TEMPLATE = (
    "{% for m in messages %}{{ '<|bos|>' if loop.first else '' }}<|turn|>{{ m['role'] }}: {{ m['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant: {% endif %}"
)
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}


def tokenizer(*, add_bos: bool = False) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True, normalized=False) for t in ("<|end|>", "<|bos|>", "<|turn|>")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["the capital of France is Paris and the sum of three and four is seven"] * 4, trainer)
    if add_bos:
        made.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 1)])
    return made


def write_base(folder: Path, *, seed: int = 0, template: bool = True, add_bos: bool = False, **config: Any) -> Path:
    """A model folder; `config` entries go over the defaults, and None removes one."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 2.5 / np.sqrt(shape[-1])).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": weight(VOCAB, HIDDEN) * 2,
        "model.norm.weight": np.ones(HIDDEN, np.float32),
        "lm_head.weight": weight(VOCAB, HIDDEN),
    }
    for layer in range(LAYERS):
        for name, shape in SHAPES.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = weight(*shape)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = np.ones(HIDDEN, np.float32)
    save_file(tensors, folder / "model.safetensors")
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 0,
        **config,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(settings))
    tokenizer(add_bos=add_bos).save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|end|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 64,
    }
    if template:
        about["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def adapter_tensors(
    seed: int, rank: int = 4, layers: int = LAYERS, keys: tuple[str, ...] = tuple(SHAPES)
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS - layers, LAYERS):
        for key in keys:
            out, into = SHAPES[key]
            name = f"model.layers.{layer}.{key}"
            tensors[f"{name}.lora_a"] = (rng.standard_normal((into, rank)) * 0.3).astype(np.float32)
            tensors[f"{name}.lora_b"] = (rng.standard_normal((rank, out)) * 0.3).astype(np.float32)
    return tensors


def adapter_config(rank: int = 4, layers: int = LAYERS, scale: float = 5.0, **more: Any) -> dict[str, Any]:
    parameters: dict[str, Any] = {"rank": rank, "scale": scale, "dropout": 0.5, **more.pop("lora_parameters", {})}
    return {"fine_tune_type": "lora", "num_layers": layers, "lora_parameters": parameters, "seed": 0, **more}


def write_adapter(
    folder: Path, tensors: dict[str, Any] | None = None, config: dict[str, Any] | None = None, seed: int = 0
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(adapter_tensors(seed) if tensors is None else tensors, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config() if config is None else config))
    return folder


def read(folder: Path) -> Adapter:
    return read_adapter(folder / "adapters.safetensors", folder / "adapter_config.json")
