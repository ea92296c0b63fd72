"""A random Llama as a GGUF file, small enough to write in milliseconds, and random adapters for it.

Its vocabulary is the 256 bytes and a few special tokens, so that it generates pieces of characters all the time. It has
fewer key-value heads than heads.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter
from safetensors.numpy import save_file

from assay.adapters.files import read_adapter
from assay.types import Adapter

Matrix = npt.NDArray[np.float32]

HIDDEN, LAYERS, INNER, HEADS, KV_HEADS, CONTEXT = 64, 2, 96, 4, 2, 2048
SPECIAL = ("<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>")
BOS, EOS = 256, 257
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "self_attn.v_proj": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
GGUF_NAMES = dict(
    zip(SHAPES, ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), strict=True)
)


def byte_tokens() -> list[str]:
    """The 256 one-byte tokens under the printable names that byte-level tokenizers give them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def rows_for_llama_cpp(weight: Matrix, heads: int) -> Matrix:
    """A q or k matrix with each head's rows in the order first, first of the second half, second, …"""
    size = weight.shape[0] // heads
    order = [
        head * size + half * size // 2 + row for head in range(heads) for row in range(size // 2) for half in (0, 1)
    ]
    return weight[order]


def write_base(
    path: Path,
    *,
    template: str | None = TEMPLATE,
    add_bos: bool = True,
    merged: Path | None = None,
    sharpness: float = 1.0,
) -> Path:
    """Write the model. merged: the weights of an adapter, at scale 2, that are added to the model's own. sharpness: what
    multiplies its logits.
    """
    random = np.random.default_rng(7)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    tokens = [*byte_tokens(), *SPECIAL, "th"]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(add_bos)
    if template is not None:
        writer.add_chat_template(template)
    output = random.standard_normal((len(tokens), HIDDEN)).astype(np.float32) * np.float32(0.3 * sharpness)
    output[EOS] = 0  # never the likeliest
    writer.add_tensor("token_embd.weight", random.standard_normal((len(tokens), HIDDEN)).astype(np.float32))
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    added = _deltas(merged) if merged is not None else {}
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(HIDDEN, np.float32))
        for name, shape in SHAPES.items():
            weight = random.standard_normal(shape).astype(np.float32) * 0.3
            weight += added.get(f"model.layers.{layer}.{name}", np.float32(0))
            if name in ("self_attn.q_proj", "self_attn.k_proj"):
                weight = rows_for_llama_cpp(weight, HEADS if "q_proj" in name else KV_HEADS)
            writer.add_tensor(f"blk.{layer}.{GGUF_NAMES[name]}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _deltas(weights: Path) -> dict[str, Matrix]:
    from safetensors.numpy import load_file

    tensors = load_file(weights)
    modules = {name.rpartition(".")[0] for name in tensors}
    return {m: 2.0 * (tensors[f"{m}.lora_a"] @ tensors[f"{m}.lora_b"]).T for m in modules}


def adapter_tensors(seed: int, *, rank: int = 3, size: float = 0.1) -> dict[str, Matrix]:
    """Random LoRA matrices for every layer, as mlx-lm lays them out: lora_a (in, rank), lora_b (rank, out)."""
    random = np.random.default_rng(seed)
    tensors: dict[str, Matrix] = {}
    for layer in range(LAYERS):
        for name, (out, into) in SHAPES.items():
            key = f"model.layers.{layer}.{name}"
            tensors[f"{key}.lora_a"] = random.standard_normal((into, rank)).astype(np.float32)
            tensors[f"{key}.lora_b"] = (random.standard_normal((rank, out)) * size).astype(np.float32)
    return tensors


def write_adapter(folder: Path, tensors: dict[str, Matrix], *, scale: float = 2.0) -> Adapter:
    """Write an adapter as mlx-lm does, and read it."""
    folder.mkdir(parents=True, exist_ok=True)
    rank = next(t.shape[1] for name, t in tensors.items() if name.endswith("lora_a"))
    config = {
        "fine_tune_type": "lora",
        "num_layers": LAYERS,
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0},
    }
    save_file(tensors, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return read_adapter(folder / "adapters.safetensors", folder / "adapter_config.json")
