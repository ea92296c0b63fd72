"""Adapters whose modules differ in rank or scale: each engine computes what PEFT itself does with the folder that it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mlx.core")
pytest.importorskip("xllamacpp")

from assay.adapters.named import adapter_at, weights_at
from assay.adapters.sources import source_at
from assay.checkpoints.layouts import PEFT_WEIGHTS
from assay.errors import AdapterMismatch
from assay.models import adapter_folder
from assay.models.base import TextModel, complete
from assay.models.open import open_local
from assay.models.own_loader import open_with
from assay.types import GenerateOptions, Raw
from tests.models.architectures import trained, write_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

KINDS = ("llama", "qwen3")
OPTIONS = GenerateOptions(max_tokens=12, logprobs=True)
RANKS = {
    "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.down_proj": 8}
}  # of 4, so that all scales are powers of two apart
SCALES = {"alpha_pattern": {"q_proj": 5, "down_proj": 7}}
SETTINGS: Mapping[str, dict[str, Any]] = {
    "ranks": RANKS,
    "odd ranks": {"rank_pattern": {"q_proj": 3}},
    "scales": SCALES,
    "scales by powers of two": {"alpha_pattern": {"q_proj": 1.5, "layers.0.mlp.down_proj": 24}},
    "both": {**RANKS, **SCALES},
    "rslora": {**RANKS, "use_rslora": True},
    "all of it": {**RANKS, **SCALES, "use_rslora": True},
    "one block": {**RANKS, **SCALES, "layers_to_transform": [1]},
    "the output": {
        "target_modules": ["o_proj", "lm_head"],
        "rank_pattern": {"lm_head": 2},
        "alpha_pattern": {"lm_head": 5},
    },
}
IN_GGUF = {"ranks", "odd ranks", "scales by powers of two"}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {kind: write_model(folder / kind, kind) for kind in KINDS}


async def told(model: TextModel) -> tuple[str, Any]:
    answer = await complete(model, Raw("the name of the"), OPTIONS)
    return answer.text, np.array([token.logprob for token in answer.tokens])


async def by_peft(base: Path, adapter: Path) -> tuple[str, Any]:
    model = await open_with("transformers", str(base), weights_at(adapter))
    try:
        return await told(model)
    finally:
        await model.aclose()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", SETTINGS)
async def test_every_engine_computes_what_peft_does(
    named: str, kind: str, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    base = bases[kind]
    theirs = trained(base, tmp_path / "theirs", **SETTINGS[named])
    text, logprobs = await by_peft(base, theirs)
    adapter = adapter_at(theirs)
    assert adapter.own
    for spec, apart in ((f"transformers:{base}", 1e-6), (f"mlx:{base}", 2e-4), (f"llama:{base}/tiny.gguf", 2e-4)):
        model = await open_local(spec)
        try:
            plain = await told(model)
            if spec.startswith("llama") and named not in IN_GGUF:
                with pytest.raises(
                    AdapterMismatch, match=r"GGUF's one adapter\.lora\.alpha can't say; transformers and MLX"
                ):
                    await model.attach(adapter)
            else:
                own, its = await told(await model.attach(adapter))
                assert own == text != plain[0]
                assert np.abs(its - logprobs).max() < apart
            again = await told(model)
            assert again[0] == plain[0]
            np.testing.assert_array_equal(again[1], plain[1])
        finally:
            await model.aclose()


FIRST = "the first match wins"
PATTERNS: Mapping[str, dict[str, float]] = {
    FIRST: {"q_proj": 5, r"layers\.0\..*": 7},
    "in this order": {r"layers\.0\..*": 7, "q_proj": 5},
    "anchored": {"^q_proj": 5, r"^model\.layers\.1\.mlp\.down_proj$": 7},
    "alternatives": {"self_attn.q_proj|layers.1.mlp.down_proj": 5},
    "only whole names from the end": {"proj": 5, "self_attn": 7, "model.layers.0": 9, "layers.0.mlp.down_proj": 11},
    "a dot is any character": {"layers.1.mlp.down.proj": 5},
    "a group": {r"layers\.([13579])\.(self_attn|mlp)\.\w+": 5},
}


# PEFT sorts the keys of what it writes, and could not load these ranks again: in the other order other ones match first.
@pytest.mark.filterwarnings("ignore:The following .* keys did not match any targeted module")
@pytest.mark.parametrize(
    ("named", "setting"),
    [*((name, "alpha_pattern") for name in PATTERNS), *((name, "rank_pattern") for name in PATTERNS if name != FIRST)],
)
def test_patterns_are_read_as_peft_reads_them(
    named: str, setting: str, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = bases["llama"]
    theirs = trained(base, tmp_path / "theirs", **{setting: PATTERNS[named]})
    if setting == "alpha_pattern":
        config = theirs / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), setting: PATTERNS[named]}))
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), theirs)
    wanted = {
        name.removeprefix("base_model.model."): (module.r["default"], module.scaling["default"])
        for name, module in loaded.named_modules()
        if hasattr(module, "lora_A") and "default" in module.lora_A
    }
    assert source_at(theirs).lora.sizes == wanted
    adapter = adapter_at(theirs)
    assert {module: adapter.size(module) for module in wanted} == wanted


async def test_they_are_resident_beside_others(bases: Mapping[str, Path], tmp_path: Path) -> None:
    base = bases["llama"]
    folders = [trained(base, tmp_path / named, **SETTINGS[named]) for named in ("both", "all of it", "scales")]
    folders.append(trained(base, tmp_path / "uniform"))
    wanted = [await by_peft(base, folder) for folder in folders]
    assert len({text for text, _ in wanted}) == 4
    for engine in ("transformers", "mlx"):
        model = await open_local(f"{engine}:{base}")
        attached = [await model.attach(adapter_at(folder)) for folder in folders]
        for one in (0, 1, 3, 2, 0, 3):
            text, logprobs = await told(attached[one])
            assert text == wanted[one][0]
            assert np.abs(logprobs - wanted[one][1]).max() < 2e-4
        await model.aclose()


def test_a_digest_covers_each_rank_and_scale(bases: Mapping[str, Path], tmp_path: Path) -> None:
    theirs = trained(bases["llama"], tmp_path / "theirs", **RANKS)
    config = theirs / "adapter_config.json"
    settings = json.loads(config.read_text())
    seen = set()
    for alphas in (
        {},
        {"q_proj": 5},
        {"layers.0.self_attn.q_proj": 5},
        {"layers.1.self_attn.q_proj": 5},
        {"down_proj": 5},
    ):
        config.write_text(json.dumps({**settings, "alpha_pattern": alphas}))
        seen.add(adapter_at(theirs).digest)
    assert len(seen) == 5
    config.write_text(json.dumps({**settings, "alpha_pattern": {r"layers\.\d\.mlp\.down_proj": 5}}))
    assert adapter_at(theirs).digest in seen


@pytest.mark.parametrize("named", ["odd ranks", "scales", "rslora"])
def test_what_a_server_can_not_be_given_exactly_is_refused(
    named: str, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    theirs = trained(bases["llama"], tmp_path / "theirs", **SETTINGS[named])
    with pytest.raises(
        AdapterMismatch,
        match=r"scales its modules each in its own way .*has the scale .* name a local model as the base",
    ):
        adapter_folder._write(adapter_at(theirs), tmp_path)


@pytest.mark.parametrize("named", ["ranks", "scales by powers of two"])
async def test_what_a_server_is_given_has_one_rank_and_one_scale(
    named: str, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    """Versions of vLLM that don't know patterns leave them out in silence."""
    base = bases["llama"]
    theirs = trained(base, tmp_path / "theirs", **SETTINGS[named])
    (tmp_path / "given").mkdir()
    adapter_folder._write(adapter_at(theirs), tmp_path / "given")
    assert source_at(tmp_path / "given" / PEFT_WEIGHTS).lora.uniform is not None
    (text, logprobs), (its, own) = await by_peft(base, theirs), await by_peft(base, tmp_path / "given")
    assert its == text
    assert np.abs(own - logprobs).max() < 1e-5  # sums of more terms, some of them 0
