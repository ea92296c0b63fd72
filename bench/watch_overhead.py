"""How much longer does a watch take than generating its answers?

Measured: `assay watch` over the lab (the base and twelve checkpoints, thirty questions each, one process, one load of the
base), from the journal's first record to its last. The first record is written when the engine has loaded the base, so
the start of the two processes and the first load are left out; swapping adapters, proving them live, scoring, the journal
and its fsyncs are in. The report at the end is left out too.

Against: the time spent generating, the sum of the `seconds` of the journal's completions. That is the wall time of each
request inside the engine's process, from the prompt's text to the last token: neither waiting in the queue nor the way to
the parent process is in it. For llama.cpp it contains a local HTTP request of about a millisecond.

`seconds` grows where the rest of assay takes processor time away from the engine, which flatters that ratio. So each
repeat also calls the engine alone, in this process, in a plain loop over the same prompts and adapters, and a second
ratio sets the same wall time against that loop. It is printed and has no target.

    python bench/watch_overhead.py                # llama.cpp, five repeats, target 1.3
    python bench/watch_overhead.py --engine mlx
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import lab

sys.path.insert(0, str(lab.ROOT))

from tests.making import copied, discovered

from assay.models.local import LocalEngine
from assay.models.open import ENGINES
from assay.suites.suite import Suite, load_suite
from assay.types import Adapter, EngineSettings, GenerateOptions

_TOGETHER = 16  # adapters made resident at once; engines hold so many


@dataclass(frozen=True)
class Repeat:
    """Seconds of a watch's wall time, of its completions, and of the engine alone; and the tokens of either."""

    wall: float
    generating: float
    alone: float
    tokens: int
    tokens_alone: int


def engine_alone(engine: str, suite: Suite) -> tuple[float, int]:
    """Seconds of generating every answer in a plain loop, adapters' loading left out, and the number of tokens."""
    model = ENGINES.get(engine)(str(lab.BASE), EngineSettings())
    options = GenerateOptions(temperature=suite.options.temperature, max_tokens=suite.options.max_tokens, logprobs=True)
    prompts = [model.render(sample.prompt) for sample in suite.samples]
    try:
        with tempfile.TemporaryDirectory() as folder:
            adapters = [copied(checkpoint, Path(folder)) for checkpoint in discovered(lab.CHECKPOINTS, "lab")]
            return _loop(model, prompts, options, adapters)
    finally:
        model.close()


def _loop(
    model: LocalEngine, prompts: list[str], options: GenerateOptions, adapters: list[Adapter]
) -> tuple[float, int]:
    seconds, tokens = _ask_all(model, prompts, options, None)
    for start in range(0, len(adapters), _TOGETHER):
        together = adapters[start : start + _TOGETHER]
        model.make_resident(together)
        for adapter in together:
            more_seconds, more_tokens = _ask_all(model, prompts, options, adapter.digest)
            seconds, tokens = seconds + more_seconds, tokens + more_tokens
    return seconds, tokens


def _ask_all(
    model: LocalEngine, prompts: list[str], options: GenerateOptions, adapter: str | None
) -> tuple[float, int]:
    tokens = 0
    started = time.perf_counter()
    for prompt in prompts:
        *_, last = model.generate(prompt, options, adapter)
        tokens += last.usage.completion_tokens if last.usage is not None else 0
    return time.perf_counter() - started, tokens


def repeat(engine: str, suite: Suite) -> Repeat:
    """One watch and, right after it, the engine alone: what slows the machine meanwhile meets both."""
    with tempfile.TemporaryDirectory() as folder:
        watched = lab.watch(Path(folder), f"{engine}:{lab.BASE}")
    first, last = watched.records[0], watched.records[-1]
    if first["kind"] != "run":
        lab.fail(f"the journal begins with a record of the kind {first['kind']!r}, not with the run")
    alone, tokens_alone = engine_alone(engine, suite)
    return Repeat(
        wall=last["time"] - first["time"],
        generating=sum(r["seconds"] for r in watched.completions),
        alone=alone,
        tokens=sum(r["completion_tokens"] for r in watched.completions),
        tokens_alone=tokens_alone,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="The overhead of assay watch over the time spent generating.")
    parser.add_argument("--engine", choices=("llama", "mlx"), default="llama")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--target", type=float, default=1.3, help="the largest ratio that is fine [1.3]")
    arguments = parser.parse_args()
    suite = load_suite(lab.SUITE)
    repeats: list[Repeat] = []
    for number in range(1, arguments.repeats + 1):
        one = repeat(arguments.engine, suite)
        if one.tokens != one.tokens_alone:
            lab.fail(f"the watch generated {one.tokens} tokens, the engine alone {one.tokens_alone}")
        repeats.append(one)
        print(
            f"{number}: wall {one.wall:.2f} s, generating {one.generating:.2f} s, engine alone {one.alone:.2f} s "
            f"for {one.tokens} tokens: ratios {one.wall / one.generating:.2f} and {one.wall / one.alone:.2f}",
            flush=True,
        )
    ratios = [one.wall / one.generating for one in repeats]
    print(f"wall time of the watch: {lab.spread([one.wall for one in repeats], ' s')}")
    print(f"wall time / engine alone in a loop: {lab.spread([one.wall / one.alone for one in repeats])}")
    print(f"wall time / time spent generating: {lab.spread(ratios)}")
    what = f"wall time / time spent generating ({arguments.engine}, median of {len(repeats)})"
    return lab.verdict(what, statistics.median(ratios), arguments.target, at_most=True)


if __name__ == "__main__":
    sys.exit(main())
