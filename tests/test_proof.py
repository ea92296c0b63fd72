"""The proof that an adapter is live: what it catches, on the real engines where the fault can be made with real weights."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from assay.adapters.files import check_against, read_adapter
from assay.adapters.fit import base_shapes
from assay.errors import AdapterMismatch
from assay.evaluation import Subject
from assay.models.open import open_model
from assay.proof import Baseline, Fingerprint, baseline, distance, fingerprint, judge
from assay.results.index import Ledger
from assay.trial import Evaluations, InProcess, Trial
from assay.types import Adapter
from tests.conftest import LAB
from tests.making import SCRIPT, checkpoints, copied, discovered, written

ENGINES = [f"mlx:{LAB / 'base'}", f"llama:{LAB / 'base' / 'lab-f32.gguf'}"]


def changed(folder: Path, name: str, change: dict[str, np.ndarray]) -> Adapter:
    """An adapter made of other tensors, with the lab's own configuration."""
    folder.mkdir()
    save_file(change, folder / f"{name}.safetensors")
    shutil.copy(LAB / "checkpoints" / "adapter_config.json", folder)
    return read_adapter(folder / f"{name}.safetensors", folder / "adapter_config.json")


def tensors(iteration: int) -> dict[str, np.ndarray]:
    loaded: dict[str, np.ndarray] = load_file(LAB / "checkpoints" / f"{iteration:07d}_adapters.safetensors")
    return loaded


@pytest.mark.parametrize("spec", ENGINES)
async def test_real_adapters_are_live_and_an_adapter_of_zeros_is_not(spec: str, tmp_path: Path) -> None:
    zeros = changed(tmp_path / "z", "zeros", {k: v * (not k.endswith("lora_b")) for k, v in tensors(60).items()})
    real = [copied(c, tmp_path / "s") for c in discovered(LAB / "checkpoints", "lab")]
    base = await open_model(spec)
    known = await baseline(base)
    prints: dict[str, Fingerprint] = {}
    for adapter in real:
        attached = await base.attach(adapter)
        seen = await fingerprint(attached)
        assert judge(known, seen, await fingerprint(attached), prints).verdict == "live"
        prints[adapter.digest] = seen
        await attached.aclose()
    attached = await base.attach(zeros)
    seen = await fingerprint(attached)
    verdict = judge(known, seen, await fingerprint(attached), prints)
    assert verdict.verdict == "unproven"
    assert "exactly as by the base" in verdict.reason
    await base.aclose()


@pytest.mark.parametrize("spec", ENGINES)
async def test_a_first_step_of_training_is_told_from_zeros(spec: str, tmp_path: Path) -> None:
    """A hundredth of the first checkpoint's weights is still an adapter."""
    faint = changed(tmp_path / "f", "faint", {k: v * np.float32(0.1) for k, v in tensors(10).items()})
    base = await open_model(spec)
    known = await baseline(base)
    seen = await fingerprint(await base.attach(faint))
    assert judge(known, seen, seen, {}).verdict == "live"
    await base.aclose()


def test_keys_that_match_nothing_never_reach_an_engine(tmp_path: Path) -> None:
    strange = changed(tmp_path / "k", "strange", {f"other.{k}": v for k, v in tensors(60).items()})
    with pytest.raises(AdapterMismatch) as caught:
        check_against(strange, base_shapes(LAB / "base"))
    assert len(caught.value.differences) == len(strange.tensors) == 56


@pytest.mark.parametrize("spec", ENGINES)
async def test_an_engine_that_is_given_strange_keys_refuses_them_itself(spec: str, tmp_path: Path) -> None:
    strange = changed(tmp_path / "k", "strange", {f"other.{k}": v for k, v in tensors(60).items()})
    base = await open_model(spec)
    with pytest.raises(AdapterMismatch):
        await base.attach(strange)
    assert (await fingerprint(base))[0][0], "and goes on working"
    await base.aclose()


def canaries(*values: float) -> Fingerprint:
    return tuple(("text", (1,), (value,)) for value in values)


BASE = Baseline(canaries(-1.0, -2.0), noise=1e-5)
MINE = canaries(-1.5, -2.0)


@pytest.mark.parametrize(
    ("before", "after", "others", "verdict", "reason"),
    [
        (MINE, MINE, {}, "live", ""),
        (MINE, MINE, {"lab @10": canaries(-1.6, -2.0)}, "live", ""),
        (MINE, MINE, {"lab @10": MINE}, "unproven", "exactly as by lab @10"),
        (BASE.base, BASE.base, {}, "unproven", "exactly as by the base"),
        (canaries(-1.000001, -2.0), canaries(-1.000001, -2.0), {}, "unproven", "exactly as by the base"),
        (MINE, BASE.base, {}, "void", "ended as from the base"),
        (MINE, canaries(-3.0, -3.0), {}, "void", "ended as from something else"),
        (BASE.base, MINE, {}, "void", "lost on the way"),
    ],
)
def test_verdicts(
    before: Fingerprint, after: Fingerprint, others: dict[str, Fingerprint], verdict: str, reason: str
) -> None:
    given = judge(BASE, before, after, others)
    assert given.verdict == verdict
    assert reason in given.reason


def test_a_base_that_never_repeats_proves_nothing() -> None:
    assert judge(replace(BASE, noise=math.inf), MINE, MINE, {}).verdict == "unproven"


def test_distance() -> None:
    assert distance(MINE, MINE) == 0
    assert distance(canaries(-1.0), canaries(-1.25)) == 0.25
    assert distance((("a", (), ()),), (("b", (), ()),)) == math.inf
    assert distance((("a", (1,), (-1.0,)),), (("a", (2,), (-1.0,)),)) == math.inf
    assert distance(canaries(-1.0), canaries(-1.0, -1.0)) == math.inf


def test_fingerprints_survive_the_journal() -> None:
    values = canaries(-0.1234567890123456, -1e-9)
    again = json.loads(json.dumps(values))
    assert distance(values, tuple((t, tuple(i), tuple(p)) for t, i, p in again)) == 0


async def test_every_batch_is_closed_also_one_that_holds_a_failure_alone(tmp_path: Path) -> None:
    base = await open_model(f"scripted:{written(tmp_path / 'script.yaml', SCRIPT)}")
    [checkpoint, _] = discovered(checkpoints(tmp_path / "runs", (10,)))
    adapter = copied(checkpoint, tmp_path / "copy")
    ledger, engine, batches = Ledger(tmp_path / "results"), InProcess(), list[str]()

    async def ask(batch: Callable[[], str]) -> Evaluations:
        """The engine's process is replaced between the samples, and none of them is answered."""
        for engine.restarts in range(3):
            batches.append(batch())
        return []

    subject = Subject("r", "r @10", 10, adapter.digest)
    trial = Trial(ledger, subject, await base.attach(adapter), await baseline(base), dict, engine)
    assert (await trial.run(ask, print))[0].verdict == "live"
    assert [ledger.is_unvouched(batch) for batch in batches] == [False] * 3
    ledger.close()
    await base.aclose()


def test_a_servers_company_moves_an_adapters_bits_and_not_the_adapter() -> None:
    def print_(logprob: float, text: str = "a") -> Fingerprint:
        return ((text, (1,), (logprob,)),)

    alone = Baseline(print_(-9.0), 1e-5)
    shared = Baseline(print_(-9.0), 1e-5, shared=True)
    others = {"x": print_(-4.0)}
    before, moved, far = print_(-1.0), print_(-1.1), print_(-1.6)
    assert judge(alone, before, moved, others).verdict == "void"
    assert judge(shared, before, moved, others).verdict == "live"
    assert judge(shared, before, far, others).verdict == "void", "no ten times nearer to itself than to another"
    assert judge(shared, before, print_(-1.0, "b"), others).verdict == "void"
    assert judge(shared, before, print_(-9.0), others).verdict == "void"
    assert judge(shared, before, print_(-4.0), others).verdict == "void"
