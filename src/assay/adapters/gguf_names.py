"""What MLX and Hugging Face call a layer, and what GGUF calls it."""

from __future__ import annotations

import re
from collections.abc import Mapping

BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The layers of a GGUF base that an adapter can name, under the names that MLX gives them, with (out, in) shapes.

    GGUF's own names are among them, for adapters that are GGUF files themselves.
    """
    hf_names = {gguf: hf for hf, gguf in BLOCK.items()}
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
        if block is not None and block[2] in hf_names:
            found[f"model.layers.{block[1]}.{hf_names[block[2]]}.weight"] = shape
        elif name == "output.weight":
            found["lm_head.weight"] = shape
        elif name == "token_embd.weight":
            found["model.embed_tokens.weight"] = shape
    return dict(shapes) | found | {f"language_model.{name}": shape for name, shape in found.items()}
