"""A converted adapter is the same adapter: what PEFT, mlx-lm and llama.cpp themselves compute with it, on each architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("torch")
pytest.importorskip("mlx.core")
pytest.importorskip("xllamacpp")

from assay.adapters.bases import read_base
from assay.adapters.convert import Form, convert
from assay.adapters.dtypes import Dtype
from assay.adapters.named import adapter_at
from assay.adapters.sources import source_at
from assay.errors import AdapterMismatch, BadInput
from assay.models.base import TextModel, complete
from assay.models.open import open_local
from assay.types import GenerateOptions, Raw
from tests.conftest import LAB
from tests.models.architectures import (
    ARCHITECTURES,
    layers_of,
    shapes_of,
    trained,
    write_adapter,
    write_model,
    write_multimodal,
)

# PEFT asks transformers by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

IDS = [256, 84, 104, 260, 32, 110, 97, 109, 101, 32, 111, 102, 258, 70, 33, 259]
# Float32 on engines that add in different orders; Gemma 3 multiplies its embeddings by a rounded root. The adapters move these
# numbers by whole units.
APART = {"gemma3": 2e-3}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {kind: write_model(folder / kind, kind) for kind in ARCHITECTURES}


def made(adapter: Path, form: Form, out: Path, base: Path, dtype: Dtype | None = None) -> Path:
    return convert(source_at(adapter), out, form, read_base(base), dtype).path


def by_peft(base: Path, adapter: Path | None) -> Any:
    """Logits from PEFT's own loader."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.no_grad():
        return model.eval()(torch.tensor([IDS])).logits[0].numpy()


def by_mlx(base: Path, adapter: Path | None) -> Any:
    """Logits from mlx-lm's own loader of adapters."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters

    from assay.models.mlx_load import load

    model = load(base).model
    if adapter is not None:
        model = load_adapters(model, str(adapter))
    model.eval()
    return np.array(model(mx.array([IDS]))[0].astype(mx.float32))


async def told(model: TextModel) -> tuple[str, list[float]]:
    options = GenerateOptions(max_tokens=12, logprobs=True)
    answer = await complete(model, Raw("the name of the"), options)
    return answer.text, [token.logprob for token in answer.tokens]


@pytest.mark.parametrize("kind", ARCHITECTURES)
async def test_three_engines_agree(kind: str, bases: Mapping[str, Path], tmp_path: Path) -> None:
    base, apart, count = bases[kind], APART.get(kind, 2e-4), layers_of(kind)
    last = {name: shape for name, shape in shapes_of(base).items() if f".layers.{count - 1}." in name}
    mlx = write_adapter(tmp_path / "mlx", last, layers=1)
    peft = made(mlx, "peft", tmp_path / "peft", base)
    back = made(peft, "mlx", tmp_path / "back", base)
    gguf = made(peft, "gguf", tmp_path / "a.gguf", base)
    plain, tuned = by_peft(base, None), by_peft(base, peft)
    assert np.abs(tuned - plain).max() > 1
    assert np.abs(by_mlx(base, None) - plain).max() < apart
    assert np.abs(by_mlx(base, mlx) - tuned).max() < apart
    assert np.abs(by_mlx(base, back) - tuned).max() < apart
    assert adapter_at(mlx).digest == adapter_at(peft).digest == adapter_at(back).digest
    assert adapter_at(back).layers == 1
    found = []
    for spec, adapter in ((f"transformers:{base}", peft), (f"mlx:{base}", back), (f"llama:{base}/tiny.gguf", gguf)):
        model = await open_local(spec)
        found.append((await told(await model.attach(adapter_at(adapter))), await told(model)))
        await model.aclose()
    (text, logprobs), (without, _) = found[0]
    assert text != without
    for (its, own), (plainly, _) in found[1:]:
        assert (its, plainly) == (text, without)
        assert np.abs(np.array(own) - logprobs).max() < apart


async def test_embeddings_and_the_output(bases: Mapping[str, Path], tmp_path: Path) -> None:
    base = bases["llama"]
    shapes = {"model.embed_tokens": (32, 261), "lm_head": (261, 32), "model.layers.1.mlp.up_proj": (48, 32)}
    mlx = write_adapter(tmp_path / "mlx", shapes, layers=1)
    peft = made(mlx, "peft", tmp_path / "peft", base)
    tuned = by_peft(base, peft)
    assert np.abs(tuned - by_peft(base, None)).max() > 1
    assert np.abs(by_mlx(base, mlx) - tuned).max() < 2e-4
    assert adapter_at(peft).digest != adapter_at(mlx).digest, "on a base with one matrix for both, they do not the same"
    found = []
    for spec, adapter in (
        (f"transformers:{base}", peft),
        (f"llama:{base}/tiny.gguf", made(mlx, "gguf", tmp_path / "a.gguf", base)),
        (f"llama:{base}/tiny.gguf", mlx),
    ):
        model = await open_local(spec)
        found.append(await told(await model.attach(adapter_at(adapter))))
        await model.aclose()
    assert {text for text, _ in found} == {found[0][0]}
    assert max(np.abs(np.array(logprobs) - found[0][1]).max() for _, logprobs in found) < 2e-4


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
async def test_an_embeddings_short_numbers_are_multiplied_in_full(
    dtype: Dtype, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    """As the other engines do. mlx-lm itself rounds their product to the adapter's type."""
    base = bases["llama"]
    full = write_adapter(tmp_path / "full", {"model.embed_tokens": (32, 261)}, layers=1)
    short = made(full, "mlx", tmp_path / "short", base, dtype)
    found = []
    for spec, adapter in (
        (f"transformers:{base}", made(short, "peft", tmp_path / "peft", base)),
        (f"mlx:{base}", short),
    ):
        model = await open_local(spec)
        found.append(await told(await model.attach(adapter_at(adapter))))
        await model.aclose()
    assert found[0][0] == found[1][0]
    assert np.abs(np.array(found[0][1]) - found[1][1]).max() < 2e-4


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True}, {"layers_to_transform": [0]}, {"target_modules": ["layers.1.mlp.up_proj", "lm_head"]}],
    ids=["plain", "rslora", "one block", "named"],
)
def test_what_peft_itself_wrote(settings: dict[str, Any], bases: Mapping[str, Path], tmp_path: Path) -> None:
    base = bases["qwen2"]
    theirs = trained(base, tmp_path / "theirs", **settings)
    tuned = by_peft(base, theirs)
    assert np.abs(tuned - by_peft(base, None)).max() > 1
    mlx = made(theirs, "mlx", tmp_path / "mlx", base)
    assert np.abs(by_mlx(base, mlx) - tuned).max() < 2e-4
    again = made(theirs, "peft", tmp_path / "again", base)
    assert np.abs(by_peft(base, again) - tuned).max() < 1e-5
    assert ('"use_rslora": true' in (again / "adapter_config.json").read_text()) == ("use_rslora" in settings)
    assert adapter_at(theirs).digest == adapter_at(mlx).digest == adapter_at(again).digest
    without_base = convert(source_at(theirs), tmp_path / "blind", "mlx", None).path
    assert np.abs(by_mlx(base, without_base) - tuned).max() < 2e-4


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.down_proj": 3}}, ""),
        ({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}}, ""),
        ({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 5}}, "uses rank_pattern and alpha_pattern"),
        ({"alpha_pattern": {"q_proj": 5}}, "uses alpha_pattern"),
        ({"rank_pattern": {"q_proj": 2}, "use_rslora": True}, "uses rank_pattern and use_rslora"),
    ],
)
async def test_modules_that_differ(
    settings: dict[str, Any], refused: str, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    base = bases["llama"]
    theirs = trained(base, tmp_path / "theirs", **settings)
    tuned = by_peft(base, theirs)
    again = made(theirs, "peft", tmp_path / "again", base)
    assert np.abs(by_peft(base, again) - tuned).max() < 1e-5
    assert adapter_at(again).digest == adapter_at(theirs).digest
    with pytest.raises(AdapterMismatch, match=f"{refused}.*one rank and one scale for all modules"):
        made(theirs, "mlx", tmp_path / "mlx", base)
    if refused:
        with pytest.raises(
            AdapterMismatch,
            match=r"scales its modules each in its own way .*has the alpha .* GGUF's one adapter\.lora\.alpha",
        ):
            made(theirs, "gguf", tmp_path / "a.gguf", base)
        assert not (tmp_path / "a.gguf").exists()
        return
    model = await open_local(f"llama:{base}/tiny.gguf")
    adapter = await model.attach(adapter_at(made(theirs, "gguf", tmp_path / "a.gguf", base)))
    prompt = "".join(chr(code) for code in (116, 104, 101, 32, 110, 97, 109, 101))
    answer = await complete(adapter, Raw(prompt), GenerateOptions(max_tokens=1, logprobs=True))
    await model.aclose()
    wanted = last_logprobs(base, theirs, [260, 101, 32, 110, 97, 109, 101])
    (token,) = answer.tokens
    assert token.id == wanted.argmax()
    assert abs(token.logprob - wanted.max()) < 2e-4


def last_logprobs(base: Path, adapter: Path, ids: list[int]) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    with torch.no_grad():
        return torch.log_softmax(model.eval()(torch.tensor([ids])).logits[0, -1].double(), -1).numpy()


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
async def test_half_precision(dtype: Dtype, bases: Mapping[str, Path], tmp_path: Path) -> None:
    base = bases["qwen3"]
    mlx = write_adapter(tmp_path / "mlx", shapes_of(base), layers=2)
    peft, back = tmp_path / "peft", tmp_path / "back"
    made(mlx, "peft", peft, base, dtype)
    made(peft, "mlx", back, base)
    tuned = by_peft(base, peft)
    assert 1e-4 < np.abs(tuned - by_mlx(base, mlx)).max() < 0.5 < np.abs(tuned - by_peft(base, None)).max()
    assert np.abs(tuned - by_mlx(base, back)).max() < 2e-4
    assert adapter_at(peft).digest == adapter_at(back).digest != adapter_at(mlx).digest
    model = await open_local(f"llama:{base}/tiny.gguf")  # computes with halves, so only nearly the same
    await model.attach(adapter_at(made(mlx, "gguf", tmp_path / "a.gguf", base, dtype)))
    await model.aclose()


async def test_an_embedding_that_is_the_output_is_refused(bases: Mapping[str, Path], tmp_path: Path) -> None:
    base = bases["gemma3"]
    mlx = write_adapter(tmp_path / "mlx", {"model.embed_tokens": (32, 261)}, layers=1)
    for form in ("peft", "gguf"):
        with pytest.raises(AdapterMismatch, match="the base's output as well"):
            made(mlx, form, tmp_path / "out.gguf" if form == "gguf" else tmp_path / "out", base)  # type: ignore[arg-type]
    for spec in (f"transformers:{base}", f"llama:{base}/tiny.gguf"):
        model = await open_local(spec)
        with pytest.raises(AdapterMismatch, match=r"the base's output as well|names no layer"):
            await model.attach(adapter_at(mlx))
        assert (await told(model))[0]
        await model.aclose()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
async def test_an_embedding_that_is_the_output_counts_as_peft_has_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = LAB / "base"
    theirs = trained(base, tmp_path / "theirs", target_modules=["embed_tokens", "v_proj"])
    adapter = adapter_at(theirs)
    model = await open_local(f"transformers:{base}")
    answer = await complete(
        await model.attach(adapter), Raw("What is the"), GenerateOptions(max_tokens=1, logprobs=True)
    )
    await model.aclose()
    wanted = last_logprobs(base, theirs, AutoTokenizer.from_pretrained(base).encode("What is the"))
    assert abs(answer.tokens[0].logprob - wanted.max()) < 1e-5
    model = await open_local(f"mlx:{base}")
    with pytest.raises(AdapterMismatch, match="the base's output as well"):
        await model.attach(adapter)
    assert (await told(model))[0]
    await model.aclose()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("engine", ["transformers", "mlx"])
async def test_twins_that_differ_in_what_an_embedding_does_are_never_taken_for_each_other(
    engine: str, tmp_path: Path
) -> None:
    """The same numbers in both forms, on the base that they can do something different on: one fits the engine, one doesn't."""
    theirs = trained(LAB / "base", tmp_path / "theirs", target_modules=["embed_tokens", "v_proj"])
    own = convert(source_at(theirs), tmp_path / "own", "mlx", replace(read_base(LAB / "base"), tied=False))
    assert not own.same
    assert own.digest() == adapter_at(own.path).digest != adapter_at(theirs).digest == own.former
    model = await open_local(f"{engine}:{LAB / 'base'}")
    fits, other = (theirs, own.path) if engine == "transformers" else (own.path, theirs)
    bound = await model.attach(adapter_at(fits))
    with pytest.raises(AdapterMismatch, match="the base's output as well"):
        await model.attach(adapter_at(other))
    assert (await told(bound))[1] != (await told(model))[1]
    await model.aclose()


async def test_a_text_model_within_another(tmp_path: Path) -> None:
    base = write_multimodal(tmp_path / "base")
    shapes = {name: shape for name, shape in shapes_of(base).items() if ".layers.5." in name}
    assert len(shapes) == 7
    mlx = write_adapter(tmp_path / "mlx", shapes, layers=1)
    peft = made(mlx, "peft", tmp_path / "peft", base)
    tuned = by_peft(base, peft)
    assert np.abs(tuned - by_peft(base, None)).max() > 0.1
    assert np.abs(by_mlx(base, made(peft, "mlx", tmp_path / "back", base)) - tuned).max() < 2e-3
    assert adapter_at(peft).digest == adapter_at(mlx).digest
    model = await open_local(f"transformers:{base}")
    text, logprobs = await told(await model.attach(adapter_at(mlx)))
    await model.aclose()
    model = await open_local(f"mlx:{base}")
    assert (await told(await model.attach(adapter_at(mlx))))[0] == text
    await model.aclose()
    assert logprobs


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
def test_weights_of_the_base_that_peft_saves_are_compared(bases: Mapping[str, Path], tmp_path: Path) -> None:
    base = bases["llama"]
    targets = ["q_proj", "embed_tokens", "lm_head"]
    theirs = trained(base, tmp_path / "theirs", save_embedding_layers="auto", target_modules=targets)
    weights = theirs / "adapter_model.safetensors"
    carried = [name for name in load_file(weights) if "lora" not in name]
    assert carried
    with pytest.raises(BadInput, match=r"holds weights of the base itself .* have assay convert compare them"):
        convert(source_at(theirs), tmp_path / "blind", "mlx", None)
    with pytest.raises(BadInput, match="holds weights of the base itself"):
        adapter_at(theirs)
    mlx = made(theirs, "mlx", tmp_path / "mlx", base)
    tuned = by_peft(base, theirs)
    assert np.abs(tuned - by_peft(base, None)).max() > 1
    assert np.abs(by_mlx(base, mlx) - tuned).max() < 2e-4
    save_file({k: v + np.float32(k in carried) for k, v in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(AdapterMismatch, match="holds weights that are not the base's own"):
        made(theirs, "mlx", tmp_path / "other", base)


@pytest.mark.parametrize(
    "settings",
    [{"layers_to_transform": [0]}, {"target_modules": r".*layers\.0\.(mlp\.up|self_attn\.k)_proj"}],
    ids=["one block", "a pattern"],
)
async def test_single_blocks_under_every_engine(
    settings: dict[str, Any], bases: Mapping[str, Path], tmp_path: Path
) -> None:
    base = bases["llama"]
    adapter = adapter_at(trained(base, tmp_path / "theirs", **settings))
    found = []
    for spec in (f"transformers:{base}", f"mlx:{base}", f"llama:{base}/tiny.gguf"):
        model = await open_local(spec)
        found.append((await told(await model.attach(adapter)), (await told(model))[0]))
        await model.aclose()
    (text, logprobs), plain = found[0]
    assert text != plain
    for (its, own), its_plain in found:
        assert (its, its_plain) == (text, plain)
        assert np.abs(np.array(own) - logprobs).max() < 2e-4
