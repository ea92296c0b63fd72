"""Write the lab's base as a 32-bit GGUF file for llama.cpp, with its tokenizer and chat template."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter, LlamaFileType, TokenType
from safetensors.numpy import load_file

PRE_TOKENIZER = "gpt-2"
"""llama.cpp's name for the pre-tokenizer that `ByteLevel(use_regex=True)` is."""

TENSORS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    """The GGUF name of a Llama tensor."""
    top = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in top:
        return top[name]
    _, _, block, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{block}.{TENSORS[part]}.weight"


def permute(weight: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Reorder a q or k matrix's rows from rotating halves (Hugging Face, MLX) to rotating pairs (llama.cpp)."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def add_hyperparameters(writer: GGUFWriter, config: dict[str, Any]) -> None:
    """Copy `config.json` into the GGUF header."""
    writer.add_name("lab")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def add_tokenizer(writer: GGUFWriter, config: dict[str, Any], base: Path) -> None:
    """Copy `tokenizer.json` and the chat template into the GGUF header."""
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    special = {token["id"] for token in tokenizer["added_tokens"]}
    names = sorted(vocabulary, key=lambda token: vocabulary[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(names)
    writer.add_token_types([TokenType.CONTROL if vocabulary[name] in special else TokenType.NORMAL for name in names])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(settings["chat_template"])


def write_gguf(base: Path) -> None:
    """Convert the folder's model to `lab-f32.gguf` beside it. Embeddings are tied, so there is no output matrix."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    writer = GGUFWriter(base / "lab-f32.gguf", "llama")
    add_hyperparameters(writer, config)
    add_tokenizer(writer, config, base)
    for name, weight in sorted(load_file(base / "model.safetensors").items()):
        if "q_proj" in name:
            weight = permute(weight, config["num_attention_heads"])
        elif "k_proj" in name:
            weight = permute(weight, config["num_key_value_heads"])
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
