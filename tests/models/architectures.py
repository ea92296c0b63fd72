"""Random models of each architecture that adapters are converted for, small, as Hugging Face's folder and as GGUF of the same.

Their rotary base is not the default, and grouped heads are fewer than heads, so that what is laid out wrongly answers wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.models.gguf_tiny import BOS, EOS, SPECIAL, TEMPLATE, Matrix, byte_tokens, rows_for_llama_cpp

HIDDEN, INNER, HEADS, KV_HEADS, HEAD, CONTEXT, THETA, RANK = 32, 48, 4, 2, 8, 256, 50000.0, 3
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma3")
_CLASSES = {
    "llama": ("Llama", "llama"),
    "mistral": ("Mistral", "llama"),
    "qwen2": ("Qwen2", "qwen2"),
    "qwen3": ("Qwen3", "qwen3"),
    "gemma3": ("Gemma3Text", "gemma3"),
}
_TOKENS = [*byte_tokens(), *SPECIAL, "th"]
_GGUF = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def layers_of(kind: str) -> int:
    return 6 if kind == "gemma3" else 2  # every sixth block of a Gemma 3 sees all that is before


def write_model(folder: Path, kind: str, **settings: Any) -> Path:
    """Write the model; its GGUF lies beside it in `folder/tiny.gguf`. Returns the folder."""
    import torch
    import transformers

    torch.manual_seed(3)
    name, _ = _CLASSES[kind]
    config = getattr(transformers, f"{name}Config")(**_config(kind), **settings)
    model = getattr(transformers, "Gemma3ForCausalLM" if kind == "gemma3" else f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3)
            elif parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    _write_gguf(folder / "tiny.gguf", kind, load_file(folder / "model.safetensors"))
    return folder


def write_multimodal(folder: Path) -> Path:
    """A Gemma 3 that takes images as well; its text model lies within, under other names in the file than in transformers."""
    import transformers

    vision = transformers.SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    tokens = {"image_token_index": 258, "boi_token_index": 257, "eoi_token_index": 259, "mm_tokens_per_image": 4}
    text = transformers.Gemma3TextConfig(**_config("gemma3"))
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, **tokens)
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**written, "vocab_size": len(_TOKENS)})
    )  # where mlx-lm looks for it
    _write_tokenizer(folder)
    return folder


def _config(kind: str) -> dict[str, Any]:
    made = {
        "vocab_size": len(_TOKENS),
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers_of(kind),
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": kind == "gemma3",
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
    }
    if kind == "gemma3":
        full = {"rope_type": "default", "rope_theta": THETA}
        sliding = {"rope_type": "default", "rope_theta": 10000.0}
        made |= {"rope_parameters": {"full_attention": full, "sliding_attention": sliding}}
        return made | {"query_pre_attn_scalar": HEAD, "sliding_window": 64}
    made["rope_parameters"] = {"rope_type": "default", "rope_theta": THETA}
    return made | ({"sliding_window": None} if kind == "mistral" else {})


def _write_tokenizer(folder: Path) -> None:
    vocabulary = {token: number for number, token in enumerate(_TOKENS)}
    made = Tokenizer(models.BPE(vocabulary, [("t", "h")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    made.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def _write_gguf(path: Path, kind: str, weights: Mapping[str, Matrix]) -> None:
    arch = _CLASSES[kind][1]
    writer = GGUFWriter(path, arch)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(layers_of(kind))
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(THETA)
    if kind == "gemma3":
        writer.add_sliding_window(64)
    writer.add_vocab_size(len(_TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(_TOKENS)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in _TOKENS])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, weight in weights.items():
        tensor = weight.astype(np.float32)
        if kind == "gemma3" and "norm" in name:
            tensor = tensor + np.float32(1)  # kept as what is to be added to 1
        if arch == "llama" and (".q_proj" in name or ".k_proj" in name):
            tensor = rows_for_llama_cpp(tensor, HEADS if ".q_proj" in name else KV_HEADS)
        writer.add_tensor(_gguf_name(name, kind), np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str, kind: str) -> str:
    module, _, leaf = name.rpartition(".")
    if module in _WHOLE:
        return f"{_WHOLE[module]}.{leaf}"
    _, _, number, part = module.split(".", 3)
    if kind == "gemma3" and part == "post_attention_layernorm":
        return f"blk.{number}.post_attention_norm.{leaf}"
    return f"blk.{number}.{_GGUF[part]}.{leaf}"


def shapes_of(folder: Path) -> dict[str, tuple[int, int]]:
    """The (out, in) shapes of the model's linear layers, by module."""
    found = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if weight.ndim == 2 and "_proj." in name and not name.startswith(("vision_tower", "multi_modal")):
            found[name.removesuffix(".weight")] = (weight.shape[0], weight.shape[1])
    return found


def write_adapter(folder: Path, shapes: Mapping[str, tuple[int, int]], layers: int, scale: float = 2.0) -> Path:
    """Write an adapter of these modules as mlx-lm does."""
    random = np.random.default_rng(11)
    tensors: dict[str, Matrix] = {}
    for module, (out, into) in shapes.items():
        tensors[f"{module}.lora_a"] = random.standard_normal((into, RANK)).astype(np.float32) * np.float32(0.3)
        tensors[f"{module}.lora_b"] = random.standard_normal((RANK, out)).astype(np.float32) * np.float32(0.3)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapters.safetensors")
    keys = sorted({m.split(".", 3)[-1] if ".layers." in m else m for m in shapes})
    parameters = {"rank": RANK, "scale": scale, "dropout": 0.0, "keys": keys}
    config = {"fine_tune_type": "lora", "num_layers": layers, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def trained(base: Path, folder: Path, save_embedding_layers: bool | str = False, **settings: Any) -> Path:
    """An adapter that PEFT itself has made and saved."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], **settings})
    made_by_peft = get_peft_model(model, config)
    for name, parameter in made_by_peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, 0, 0.3)
    made_by_peft.save_pretrained(str(folder), save_embedding_layers=save_embedding_layers)
    return folder
