"""What an adapter switch costs, as a part of what evaluating one checkpoint's thirty questions takes.

Measured: the lab's suite under two of its checkpoints that are both resident, one question at a time: first all questions under
one and then under the other (one switch), against each question under both in turn (a switch at every answer). The difference,
divided by the switches, is what one costs. Every answer must be the same.

Beside it, without a target, what making checkpoints resident costs: all that are announced together load together, and each
one's part of that is divided by the same thirty questions. llama.cpp takes its adapters when its server starts, so there it
is the base's loading, shared by those that are announced, and each one's conversion to GGUF.

    python bench/adapter_swaps.py
    python bench/adapter_swaps.py --engine llama
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import lab

sys.path.insert(0, str(lab.ROOT))

from tests.making import copied, discovered

from assay.models.base import TextModel, complete
from assay.models.local import LocalModel
from assay.models.open import open_local
from assay.suites.suite import load_suite
from assay.types import Adapter, GenerateOptions, Prompt

TARGET = 0.05
ENGINES = ("llama", "mlx", "transformers")


async def answers(jobs: Sequence[tuple[TextModel, Prompt]], options: GenerateOptions) -> tuple[float, list[str]]:
    """The seconds that the jobs take one after the other, and what came."""
    started = time.perf_counter()
    texts = [(await complete(model, prompt, options)).text for model, prompt in jobs]
    return time.perf_counter() - started, texts


async def switching(model: LocalModel, pair: Sequence[Adapter], repeats: int) -> tuple[list[float], list[float]]:
    """Of each repeat: the seconds of a switch, and of the thirty questions under one checkpoint."""
    suite = load_suite(lab.SUITE)
    options = GenerateOptions(temperature=suite.options.temperature, max_tokens=suite.options.max_tokens)
    await model.expect(pair)
    bound = [await model.attach(adapter) for adapter in pair]
    blocks = [(one, sample.prompt) for one in bound for sample in suite.samples]
    turns = [(one, sample.prompt) for sample in suite.samples for one in bound]
    more = (len(turns) - 1) - (len(bound) - 1)  # switches
    await answers(turns, options)  # warm
    switches, questions = [], []
    for _ in range(repeats):
        block, one_way = await answers(blocks, options)
        turn, other_way = await answers(turns, options)
        if sorted(zip((str(p) for _, p in blocks), one_way, strict=True)) != sorted(
            zip((str(p) for _, p in turns), other_way, strict=True)
        ):
            lab.fail("an answer changes with the order in which adapters take turns")
        switches.append((turn - block) / more)
        questions.append(block / len(bound))
    for one in bound:
        await one.aclose()
    return switches, questions


async def making_resident(model: LocalModel, adapters: Sequence[Adapter]) -> float:
    """Seconds of an adapter's part, where all of these are announced together and none is there yet."""
    started = time.perf_counter()
    await model.expect(adapters)
    for adapter in adapters:
        await (await model.attach(adapter)).aclose()
    return (time.perf_counter() - started) / len(adapters)


async def measured(engine: str, adapters: Sequence[Adapter], repeats: int) -> int:
    model = await open_local(f"{engine}:{lab.BASE}")
    try:
        switches, questions = await switching(model, (adapters[0], adapters[-1]), repeats)
        thirty = statistics.median(questions)
        print(f"{engine}: 30 questions {lab.spread([1000 * one for one in questions], ' ms')}")
        print(f"{engine}: a switch     {lab.spread([1000 * one for one in switches], ' ms')}")
        for count in (1, 4, 8, 12):
            seconds = []
            for _ in range(3):
                await model.expect([])
                seconds.append(await making_resident(model, adapters[:count]))
            part = statistics.median(seconds)
            print(
                f"{engine}: made resident {count} at a time: {1000 * part:.1f} ms each, {part / thirty:.1%} of 30 questions"
            )
        share = statistics.median(switch / one for switch, one in zip(switches, questions, strict=True))
        return lab.verdict(f"{engine}: a switch, as a part of 30 questions,", share, TARGET, at_most=True)
    finally:
        await model.aclose()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engine", choices=ENGINES, help="this one alone")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = [one for one in discovered(lab.CHECKPOINTS, "lab") if one.numbered]
        adapters = [copied(one, Path(name)) for one in found]
        engines = ENGINES if chosen.engine is None else (chosen.engine,)
        return max(asyncio.run(measured(engine, adapters, chosen.repeats)) for engine in engines)


if __name__ == "__main__":
    sys.exit(main())
