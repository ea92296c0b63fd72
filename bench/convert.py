"""What does it cost to convert an adapter of 100 MB?

Measured: seconds from opening the adapter to the output's being on the disk under its name, the adapter's digest included, in
each direction; and how far the process's resident memory peaks above what it was before. Each in a fresh process, on files that
the page cache holds. Beside it, what the output's own digest takes after that: `assay convert` shows it where it differs, as a
GGUF file's does.

Against: copying the adapter, its folder for a folder and its weights for a GGUF file, and waiting until it is on the disk
(`shutil.copyfile`; fsync of each file, of their folder and of the one above), run in turn with it.

Fails where a conversion takes more than twice the time of the copy, or more memory than three times the adapter's size.

    python bench/convert.py
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from assay.adapters.bases import Base
from assay.adapters.convert import Form, convert
from assay.adapters.sources import source_at

SLOWER, LARGER = 2.0, 3.0  # times the copy's seconds; times the adapter's bytes
LAYERS, RANK = 32, 10  # of an 8B Llama in float32: 105 MB
SHAPES = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}
DIRECTIONS: tuple[tuple[str, Form], ...] = (("mlx", "peft"), ("mlx", "gguf"), ("peft", "mlx"), ("peft", "gguf"))


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--folder", type=Path, help="where to write [a temporary folder]")
    arguments.add_argument("--one", nargs=3, metavar=("SOURCE", "TO", "OUT"), help="one conversion, in this process")
    found = arguments.parse_args()
    if found.one:
        source, to, out = found.one
        print(json.dumps(measured(Path(source), to, Path(out))))
        return 0
    with tempfile.TemporaryDirectory(dir=found.folder) as folder:
        return bench(Path(folder), found.rounds)


def bench(folder: Path, rounds: int) -> int:
    adapters = {"mlx": written(folder / "mlx")}
    convert(source_at(adapters["mlx"]), folder / "peft", "peft", None)
    adapters["peft"] = folder / "peft"
    size = (folder / "mlx" / "adapters.safetensors").stat().st_size
    print(f"an adapter of {size / 1e6:.0f} MB, {rounds} rounds")
    fine = True
    for source, to in DIRECTIONS:
        ratios, seconds, digests, copies, peaks = [], [], [], [], []
        for _ in range(rounds):
            copies.append(copied(adapters[source], to, folder / "copy"))
            told = fresh(adapters[source], to, folder / ("out.gguf" if to == "gguf" else "out"))
            seconds.append(told["seconds"])
            digests.append(told["digest"])
            peaks.append(told["peak"])
            ratios.append(seconds[-1] / copies[-1])
        ratio, peak = statistics.median(ratios), max(peaks)
        fine = fine and ratio <= SLOWER and peak <= LARGER * size
        print(
            f"{source:>4} to {to:<4}  {ratio:.2f} times the copy ({min(ratios):.2f} to {max(ratios):.2f}): "
            f"{statistics.median(seconds):.2f} s against {statistics.median(copies):.2f} s, "
            f"{statistics.median(digests):.2f} s more for the output's digest; "
            f"peak {peak / 1e6:.0f} MB, {peak / size:.2f} of its size"
        )
    print("within the targets" if fine else "a target is missed")
    return 0 if fine else 1


def written(folder: Path) -> Path:
    random = np.random.default_rng(0)
    tensors = {}
    for layer in range(LAYERS):
        for name, (out, into) in SHAPES.items():
            key = f"model.layers.{layer}.{name}"
            tensors[f"{key}.lora_a"] = random.standard_normal((into, RANK), np.float32)
            tensors[f"{key}.lora_b"] = random.standard_normal((RANK, out), np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapters.safetensors")
    parameters = {"rank": RANK, "scale": 2.0, "dropout": 0.0}
    (folder / "adapter_config.json").write_text(json.dumps({"num_layers": LAYERS, "lora_parameters": parameters}))
    return folder


def copied(source: Path, to: Form, target: Path) -> float:
    """Seconds to copy the adapter and to have it on the disk: its folder, or where one file is made its weights alone."""
    files = [next(source.glob("*.safetensors"))] + ([] if to == "gguf" else [source / "adapter_config.json"])
    os.sync()
    begun = time.perf_counter()
    target.mkdir()
    for file in files:
        shutil.copyfile(file, target / file.name)
        synced(target / file.name)
    synced(target)
    synced(target.parent)
    seconds = time.perf_counter() - begun
    shutil.rmtree(target)
    return seconds


def synced(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    os.fsync(opened)
    os.close(opened)


def fresh(source: Path, to: Form, out: Path) -> dict[str, float]:
    os.sync()
    done = subprocess.run(
        [sys.executable, __file__, "--one", source, to, out], capture_output=True, text=True, check=True
    )
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    told: dict[str, float] = json.loads(done.stdout)
    return told


def measured(source: Path, to: Form, out: Path) -> dict[str, float]:
    """Seconds of one conversion and of the output's digest, and the bytes by which memory peaks above what it was before."""
    import gguf  # noqa: F401  imported by the conversion to GGUF: start-up, and no part of it

    shapes = {f"model.layers.{n}.{name}.weight": shape for n in range(LAYERS) for name, shape in SHAPES.items()}
    base = Base(Path("base"), shapes, "llama", 32, 8, tied=False)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS")
    begun = time.perf_counter()
    made = convert(source_at(source), out, to, base)
    ended = time.perf_counter()
    made.digest()
    digest = time.perf_counter() - ended
    return {"seconds": ended - begun, "digest": digest, "peak": resident("VmHWM") - before}


def resident(what: str) -> int:
    """Bytes, as Linux tells them."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{what}:")[2].split()[0])


if __name__ == "__main__":
    sys.exit(main())
