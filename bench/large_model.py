"""Eight adapters on a large model: tokens a second with adapters mixed in a batch, against the base alone, on a GPU.

The model is a random Llama of Llama 2 7B's shape in bfloat16, with the lab's tokenizer (a vocabulary of 512), made on the
device and written to a folder; the adapters are random ones of rank 16 on all seven projections. What it says has no meaning.

Measured: 64 questions at once, up to 64 tokens each, by the base, and the same with each question under one of the eight
adapters; then, one question after the other, what a switch of adapters adds; and what it takes to make an adapter resident.
Beside it stands the floor: the time in which the device can read all weights once, by the bandwidth of a copy in its memory. A
step of a batch can't take less.

Needs the extra torch and 14 GB of disk; `--layers 2 --width 256` runs anywhere, and tells nothing but that the script works.

    python bench/large_model.py --folder /scratch
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import lab
from assay.adapters.named import adapter_at
from assay.models.base import TextModel, complete
from assay.models.local import LocalModel
from assay.models.open import open_local
from assay.types import Adapter, GenerateOptions

ADAPTERS, RANK = 8, 16
QUESTIONS, TOKENS = 64, 64


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def write_model(folder: Path, layers: int, width: int) -> int:
    """A random Llama in bfloat16; the bytes of its weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(lab.BASE, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.gguf", "config.json"))
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=width,
        intermediate_size=width * 43 // 16,  # 11008 of 4096
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 128),
        num_key_value_heads=max(1, width // 128),
        max_position_embeddings=4096,
        eos_token_id=0,
    )
    with torch.device(device()):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return sum(p.numel() * p.element_size() for p in model.parameters())


def write_adapter(folder: Path, seed: int, layers: int, width: int) -> Adapter:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    wide = width * 43 // 16
    shapes = {f"self_attn.{name}_proj": (width, width) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (wide, width), "mlp.up_proj": (wide, width), "mlp.down_proj": (width, wide)}
    tensors = {}
    for layer in range(layers):
        for name, (out, into) in shapes.items():
            key = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, into, dtype=torch.bfloat16) / into**0.5
            tensors[f"{key}.lora_B.weight"] = torch.randn(out, RANK, dtype=torch.bfloat16) / RANK**0.5
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    names = sorted({name.partition(".")[2] for name in shapes})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": names, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return adapter_at(folder)


def bandwidth() -> float:
    """Bytes a second that a copy reads and writes in the device's memory."""
    import torch

    source = torch.empty(1 << 28, dtype=torch.float32, device=device())
    target = torch.empty_like(source)
    found = []
    for _ in range(8):
        wait()
        begun = time.perf_counter()
        target.copy_(source)
        wait()
        found.append(2 * source.nbytes / (time.perf_counter() - begun))
    return statistics.median(found[1:])


def wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


async def pace(models: Sequence[TextModel]) -> tuple[float, int]:
    """Seconds and tokens of all questions at once, each asked of one of these in turn."""
    options = GenerateOptions(max_tokens=TOKENS)
    asked = [(models[at % len(models)], f"What is {at} plus {at + 1}?") for at in range(QUESTIONS)]
    begun = time.perf_counter()
    answers = await asyncio.gather(*(complete(model, prompt, options) for model, prompt in asked))
    return time.perf_counter() - begun, sum(answer.usage.completion_tokens for answer in answers)


async def one_by_one(models: Sequence[TextModel]) -> float:
    options = GenerateOptions(max_tokens=8)
    begun = time.perf_counter()
    for model in models:
        await complete(model, "What is 3 plus 4?", options)
    return time.perf_counter() - begun


async def measured(model: LocalModel, adapters: Sequence[Adapter], size: int, repeats: int) -> None:
    begun = time.perf_counter()
    bound = [await model.attach(adapter) for adapter in adapters]
    print(f"to make one adapter resident: {1000 * (time.perf_counter() - begun) / len(adapters):.0f} ms")
    await pace([model])
    await pace(bound)
    paces: dict[str, list[float]] = {"base": [], "mixed": []}
    for _ in range(repeats):
        for name, models in (("base", [model]), ("mixed", bound)):
            seconds, tokens = await pace(models)
            paces[name].append(tokens / seconds)
    for name, found in paces.items():
        print(f"{name + ', tokens a second:':28} {lab.spread(found)}")
    ratio = statistics.median(m / b for m, b in zip(paces["mixed"], paces["base"], strict=True))
    print(f"mixed against the base alone: {ratio:.2f}")
    blocks, turns = [], []
    for _ in range(repeats):
        blocks.append(await one_by_one([bound[0]] * 15 + [bound[1]] * 15))
        turns.append(await one_by_one([bound[0], bound[1]] * 15))
    switch = statistics.median(t - b for t, b in zip(turns, blocks, strict=True)) / 28
    print(f"a switch of adapters: {1000 * switch:.2f} ms; thirty questions {lab.spread(blocks, ' s')}")
    floor = size / bandwidth()
    step = QUESTIONS / statistics.median(paces["base"])
    print(
        f"{size / 1e9:.1f} GB of weights are read in {1000 * floor:.1f} ms at the least; a token of each of the {QUESTIONS} "
        f"questions took {1000 * step:.1f} ms by the base ({step / floor:.1f} times the floor)"
    )


async def bench(folder: Path, layers: int, width: int, repeats: int) -> None:
    size = write_model(folder / "base", layers, width)
    adapters = [write_adapter(folder / f"adapter-{at}", at, layers, width) for at in range(ADAPTERS)]
    model = await open_local(f"transformers:{folder / 'base'}")
    try:
        print(f"{model.info.engine_version}; batches of {model.info.batch}")
        await measured(model, adapters, size, repeats)
    finally:
        await model.aclose()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write [a temporary folder]")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        asyncio.run(bench(Path(folder), chosen.layers, chosen.width, chosen.repeats))
    return 0


if __name__ == "__main__":
    sys.exit(main())
