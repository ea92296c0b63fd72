"""Twelve adapters on transformers and PEFT: mixed in batches, against one adapter and one prompt at a time.

Measured: the lab's twelve checkpoints, thirty questions each, asked of one engine that has all of them resident, all at once,
so that it fills its batches with rows of any adapter. The engine is loaded and warm; nothing is journaled or scored.

Against: the same engine, the same questions, one after the other, adapter after adapter. Every answer must be the same.

With `--lm-eval-python`, also whole processes: `assay watch` over the base and the twelve checkpoints with this engine, from the
start to the exit, against one process of lm-evaluation-harness each (`against_lm_eval.py` says how it is run and made).

    python bench/mixed_adapters.py
    python bench/mixed_adapters.py --lm-eval-python lm-eval/bin/python
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import lab
from against_lm_eval import Harness, make_task, to_peft

sys.path.insert(0, str(lab.ROOT))

from tests.making import copied, discovered

from assay.models.base import complete
from assay.models.open import open_local
from assay.suites.suite import load_suite
from assay.types import Adapter, GenerateOptions

MIXED, HARNESS = 4.0, 10.0
SPEC = f"transformers:{lab.BASE}"


async def measured(adapters: list[Adapter], repeats: int) -> list[tuple[float, float]]:
    """Seconds of all at once, and of one after the other, by repeats."""
    suite = load_suite(lab.SUITE)
    options = GenerateOptions(temperature=suite.options.temperature, max_tokens=suite.options.max_tokens)
    model = await open_local(SPEC)
    try:
        await model.expect(adapters)
        bound = [await model.attach(adapter) for adapter in adapters]
        jobs = [(one, sample.prompt) for one in bound for sample in suite.samples]
        await asyncio.gather(*[complete(one, prompt, options) for one, prompt in jobs[:32]])  # warm
        found = []
        for _ in range(repeats):
            started = time.perf_counter()
            mixed = await asyncio.gather(*[complete(one, prompt, options) for one, prompt in jobs])
            between = time.perf_counter()
            alone = [await complete(one, prompt, options) for one, prompt in jobs]
            found.append((between - started, time.perf_counter() - between))
            different = sum(a.text != b.text for a, b in zip(mixed, alone, strict=True))
            if different:
                lab.fail(f"{different} of {len(jobs)} answers differ between a mixed batch and alone")
        return found
    finally:
        await model.aclose()


def against_harness(python: Path, folder: Path) -> int:
    """Whole processes: the ratio to 13 of lm-eval's, from three of them."""
    watched = lab.watch(folder / "results", SPEC)
    make_task(folder)
    harness = Harness(python, folder, batch=30, threads=1)
    harness.run(None)  # fills the caches
    files = sorted(lab.CHECKPOINTS.glob("0*_adapters.safetensors"))
    adapters = [None, *[to_peft(file, folder) for file in (files[0], files[-1])]]
    seconds = [harness.run(adapter)[0] for adapter in adapters]
    whole = statistics.mean(seconds) * lab.SUBJECTS
    print(f"assay watch: {watched.seconds:.1f} s; lm-eval, {lab.SUBJECTS} processes: {whole:.0f} s")
    return lab.verdict("times as fast as lm-eval", whole / watched.seconds, HARNESS, at_most=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lm-eval-python", type=Path, help="the Python of an environment with lm-eval, torch and peft")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapters = [copied(found, folder / "staged") for found in discovered(lab.CHECKPOINTS, "lab") if found.numbered]
        pairs = asyncio.run(measured(adapters, chosen.repeats))
        print(f"mixed in batches:      {lab.spread([mixed for mixed, _ in pairs], ' s')}")
        print(f"one after the other:   {lab.spread([alone for _, alone in pairs], ' s')}")
        ratio = statistics.median(alone / mixed for mixed, alone in pairs)
        code = lab.verdict("times as fast as one at a time", ratio, MIXED, at_most=False)
        if chosen.lm_eval_python is not None:
            code = max(code, against_harness(chosen.lm_eval_python, folder))
    return code


if __name__ == "__main__":
    sys.exit(main())
