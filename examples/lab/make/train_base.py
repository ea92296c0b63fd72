"""Train the lab's base model from nothing: a Llama of 0.86 million parameters, with MLX on the CPU."""

import json
import random
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from make.chat_tokenizer import END, START, VOCAB_SIZE, encode
from make.data import base_conversations

SEED = 0
STEPS = 600
WARMUP = 40
BATCH = 16
WINDOW = 4
PEAK_RATE = 3e-3


def config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The model's `config.json`. `rope_theta` is top-level because mlx-lm reads it only there."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 128,
        "intermediate_size": 344,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.token_to_id(START),
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(END),
        "torch_dtype": "float32",
    }


@mx.custom_function
def times_transposed(inputs: mx.array, weight: mx.array) -> mx.array:
    """`inputs @ weight.T` by NumPy, whose BLAS is some thirty times faster than the one in MLX's Linux wheel."""
    return mx.array(np.asarray(inputs) @ np.asarray(weight).T)


@times_transposed.vjp
def times_transposed_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, _output: mx.array
) -> tuple[mx.array, mx.array]:
    """The gradients of `times_transposed`."""
    inputs, weight, change = np.asarray(primals[0]), np.asarray(primals[1]), np.asarray(cotangent)
    flat = change.reshape(-1, change.shape[-1])
    return mx.array(change @ weight), mx.array(flat.T @ inputs.reshape(-1, inputs.shape[-1]))


class FastLinear(nn.Linear):  # type: ignore[misc, unused-ignore]
    """A linear layer without bias that multiplies by NumPy."""

    def __call__(self, inputs: mx.array) -> mx.array:
        """Apply the layer."""
        return cast("mx.array", times_transposed(inputs, self.weight))


class FastEmbedding(nn.Embedding):  # type: ignore[misc, unused-ignore]
    """An embedding whose tied output layer multiplies by NumPy."""

    def as_linear(self, inputs: mx.array) -> mx.array:
        """Apply the output layer."""
        return cast("mx.array", times_transposed(inputs, self.weight))


def use_numpy(_name: str, module: nn.Module) -> None:
    """Switch one module's matrix product to NumPy, in place; its parameters stay as they are."""
    if type(module) is nn.Linear:
        module.__class__ = FastLinear
    elif type(module) is nn.Embedding:
        module.__class__ = FastEmbedding


def batches(tokenizer: Tokenizer) -> Iterator[tuple[mx.array, mx.array]]:
    """Endless batches of rows of about one length: token ids, and a mask over the tokens that count in the loss."""
    stream = base_conversations(SEED)
    rng = random.Random(SEED)
    while True:
        rows = [encode(tokenizer, conversation) for conversation in islice(stream, BATCH * WINDOW)]
        rows.sort(key=lambda row: len(row[0]))
        window = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        rng.shuffle(window)
        yield from map(pad, window)


def pad(rows: list[tuple[list[int], list[bool]]]) -> tuple[mx.array, mx.array]:
    """One batch as two arrays."""
    width = max(len(ids) for ids, _ in rows)
    ids, said = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.float32)
    for index, (row_ids, row_said) in enumerate(rows):
        ids[index, : len(row_ids)] = row_ids
        said[index, : len(row_said)] = row_said
    return mx.array(ids), mx.array(said)


def answer_loss(model: nn.Module, ids: mx.array, said: mx.array) -> mx.array:
    """Mean cross-entropy over the answers' tokens."""
    losses = nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
    mask = said[:, 1:]
    loss: mx.array = (losses * mask).sum() / mask.sum()
    return loss


def train_base(tokenizer: Tokenizer, folder: Path) -> None:
    """Train, and write `config.json`, `generation_config.json` and `model.safetensors` into the folder."""
    settings = config(tokenizer)
    mx.random.seed(SEED)
    model = llama.Model(llama.ModelArgs.from_dict(settings))
    model.apply_to_modules(use_numpy)
    mx.eval(model.parameters())
    rate = optim.join_schedules(
        [optim.linear_schedule(0.0, PEAK_RATE, WARMUP), optim.cosine_decay(PEAK_RATE, STEPS - WARMUP)], [WARMUP]
    )
    optimizer = optim.AdamW(learning_rate=rate, betas=[0.9, 0.95], weight_decay=0.01, bias_correction=True)
    step = nn.value_and_grad(model, partial(answer_loss, model))
    began = time.perf_counter()
    for number, (ids, said) in enumerate(islice(batches(tokenizer), STEPS), start=1):
        loss, gradients = step(ids, said)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state, loss)
        if number % 100 == 0 or number == 1:
            print(f"base step {number:4d}  loss {loss.item():.5f}  {time.perf_counter() - began:.0f} s", flush=True)
    save_base(model, settings, folder)


def save_base(model: nn.Module, settings: dict[str, Any], folder: Path) -> None:
    """Write the model under the tensor names that transformers uses, which are mlx-lm's too."""
    weights = {name: np.array(value) for name, value in tree_flatten(model.parameters())}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ids = {name: settings[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (("config.json", settings), ("generation_config.json", {**ids, "do_sample": False})):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
