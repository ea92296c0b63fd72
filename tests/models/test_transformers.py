"""The transformers engine on real models: the same answers as other engines, batches that mix adapters, refusals."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra: pip install 'assay[torch]'")
pytest.importorskip("peft", reason="needs the torch extra: pip install 'assay[torch]'")

from assay.adapters.named import adapter_at  # noqa: E402
from assay.errors import AdapterMismatch, GenerationError, ModelError  # noqa: E402
from assay.models.base import complete  # noqa: E402
from assay.models.local import LocalModel, Request  # noqa: E402
from assay.models.open import open_local  # noqa: E402
from assay.models.transformers import TransformersEngine, open_engine  # noqa: E402
from assay.suites.suite import load_suite  # noqa: E402
from assay.types import Chunk, EngineSettings, GenerateOptions, Message, Raw  # noqa: E402
from tests.adapters.test_gguf_lora import made  # noqa: E402
from tests.conftest import LAB  # noqa: E402
from tests.making import copied, discovered  # noqa: E402
from tests.models import mlx_tiny as tiny  # noqa: E402

PROMPT = "What is the capital of France?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("torch") / "base")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TransformersEngine]:
    opened = open_engine(str(folder), EngineSettings())
    yield opened
    opened.close()


@pytest.fixture
async def model(folder: Path) -> AsyncIterator[LocalModel]:
    opened = await open_local(f"transformers:{folder}")
    yield opened
    await opened.aclose()


def ask(
    engine: TransformersEngine, text: str | None = None, adapter: str | None = None, **options: object
) -> list[Chunk]:
    settings = GenerateOptions(**{"max_tokens": 40, **options})  # type: ignore[arg-type]
    return list(engine.generate(engine.render(PROMPT) if text is None else text, settings, adapter))


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def test_the_lab_answers_as_it_does_under_mlx_and_llama_cpp(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core", reason="needs the mlx extra")
    pytest.importorskip("xllamacpp", reason="needs the llama extra")
    samples = load_suite(LAB / "suite.yaml").samples
    found = discovered(LAB / "checkpoints", "lab")
    adapters = [copied(found[at], tmp_path) for at in (0, 3, 11)]
    options = GenerateOptions(max_tokens=24, logprobs=True)
    texts, probabilities = {}, {}
    for spec in (f"transformers:{LAB / 'base'}", f"mlx:{LAB / 'base'}", f"llama:{LAB / 'base' / 'lab-f32.gguf'}"):
        opened = await open_local(spec)
        try:
            await opened.expect(adapters)
            bound = [opened, *[await opened.attach(adapter) for adapter in adapters]]
            answers = await asyncio.gather(*[complete(one, s.prompt, options) for one in bound for s in samples])
        finally:
            await opened.aclose()
        texts[spec] = [answer.text for answer in answers]
        probabilities[spec] = np.array([sum(token.logprob for token in answer.tokens) for answer in answers])
    first, *others = texts
    assert len(set(texts[first])) > 20
    for other in others:
        assert texts[other] == texts[first]
        assert np.abs(probabilities[other] - probabilities[first]).max() < 1e-3


def test_info(engine: TransformersEngine, folder: Path) -> None:
    info = engine.info
    assert (info.name, info.engine, info.context_length, info.declared) == (
        f"transformers:{folder}",
        "transformers",
        256,
        False,
    )
    assert info.engine_version.startswith(f"torch {torch.__version__}, transformers ")
    assert info.engine_version.endswith(", cpu, float32")


def test_identity_follows_every_file_that_decides_answers(tmp_path: Path) -> None:
    def identity(name: str, **config: Any) -> str:
        opened = open_engine(str(tiny.write_base(tmp_path / name, **config)), EngineSettings())
        opened.close()
        return opened.info.identity

    assert identity("a") == identity("b")
    assert (
        len({identity("c"), identity("d", seed=1), identity("e", template=False), identity("f", rope_theta=500.0)}) == 4
    )


def test_render(engine: TransformersEngine, tmp_path: Path) -> None:
    assert engine.render("hi") == "<|bos|><|turn|>user: hi<|end|><|turn|>assistant: "
    turns = [Message("system", "be brief"), Message("user", "hi")]
    assert engine.render(turns).startswith("<|bos|><|turn|>system: be brief<|end|><|turn|>user: hi<|end|>")
    assert engine.render(Raw("as <|it|> is ")) == "as <|it|> is "
    bare = open_engine(str(tiny.write_base(tmp_path / "bare", template=False)), EngineSettings())
    assert bare.render("hi") == "hi"
    with pytest.raises(ModelError, match="no chat template"):
        bare.render(turns)
    bare.close()


def reference(engine: TransformersEngine, text: str, ids: list[int]) -> list[float]:
    """Log-probabilities of the tokens from one forward pass over the whole, without a cache or padding."""
    prompt = engine._tokenizer.encode(text, add_special_tokens=False)
    with torch.inference_mode():
        logits = engine._model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].float()
    exact = logits.log_softmax(-1)
    return [float(exact[i, token]) for i, token in enumerate(ids)]


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7, "seed": 1, "top_k": 20, "top_p": 0.9}, {"repeat_penalty": 1.5}]
)
def test_logprobs_are_the_models_own(engine: TransformersEngine, options: dict[str, object]) -> None:
    text = engine.render(PROMPT)
    tokens = [token for chunk in ask(engine, logprobs=True, **options) for token in chunk.tokens]
    assert [t.logprob for t in tokens] == pytest.approx(reference(engine, text, [t.id for t in tokens]), abs=1e-4)
    if not options:
        assert [t.id for t in tokens][:5] == greedy(engine, text, 5)
    assert text_of(ask(engine, **options)) == text_of(ask(engine, logprobs=True, **options))


def greedy(engine: TransformersEngine, text: str, count: int) -> list[int]:
    """transformers' own greedy tokens."""
    ids = torch.tensor([engine._tokenizer.encode(text, add_special_tokens=False)])
    with torch.inference_mode():
        found = engine._model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    return list(found[0, ids.shape[1] :].tolist())


def test_end_of_text_is_never_shown(tmp_path: Path) -> None:
    folder = tiny.write_base(tmp_path / "ending")
    running = open_engine(str(folder), EngineSettings())
    ids = [token.id for chunk in ask(running, logprobs=True) for token in chunk.tokens]
    last = next(i for i in range(3, 40) if ids[i] not in ids[:i] and ids[i] > 2)
    running.close()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, ids[last]]}))
    ending = open_engine(str(folder), EngineSettings())
    chunks = ask(ending, logprobs=True)
    assert [token.id for chunk in chunks for token in chunk.tokens] == ids[: last + 1]
    assert text_of(chunks) == ending._tokenizer.decode(ids[:last], skip_special_tokens=True)
    assert chunks[-1].finish_reason == "stop"
    ending.close()


def test_context(tmp_path: Path) -> None:
    small = open_engine(str(tiny.write_base(tmp_path / "small", max_position_embeddings=40)), EngineSettings())
    full = ask(small, Raw("a" * 35), max_tokens=100)
    assert full[-1].usage is not None
    assert (full[-1].finish_reason, full[-1].usage.prompt_tokens + full[-1].usage.completion_tokens) == ("length", 40)
    with pytest.raises(GenerationError, match=r"prompt has 40 tokens .* context of 40"):
        ask(small, Raw("a" * 40))
    with pytest.raises(GenerationError, match="prompt is empty"):
        ask(small, "")
    small.close()


def adapters(tmp_path: Path) -> list[Any]:
    """Of other weights, ranks, layers and modules."""
    partial = tiny.adapter_tensors(7, rank=2, layers=2, keys=("self_attn.q_proj", "mlp.down_proj"))
    made = [tiny.write_adapter(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    made.append(tiny.write_adapter(tmp_path / "partial", partial, tiny.adapter_config(rank=2, layers=2, scale=9.0)))
    return [tiny.read(folder) for folder in made]


def test_a_mixed_batch_gives_what_each_row_gives_alone(engine: TransformersEngine, tmp_path: Path) -> None:
    found = adapters(tmp_path)
    engine.make_resident(found)
    requests = [
        Request(
            engine.render(f"{PROMPT} {'again ' * n}"), GenerateOptions(max_tokens=10 + 3 * n, logprobs=True), digest
        )
        for n, digest in enumerate([None, *[a.digest for a in found]] * 3)
    ]
    together: dict[int, list[Chunk]] = {}
    for place, item in engine.generate_batch(requests, lambda _: False):
        assert isinstance(item, Chunk)
        together.setdefault(place, []).append(item)
    alone = [list(engine.generate(r.text, r.options, r.adapter)) for r in requests]
    for place, chunks in enumerate(alone):
        assert text_of(together[place]) == text_of(chunks)
        assert together[place][-1].usage is not None
        assert together[place][-1].usage.logprob == pytest.approx(chunks[-1].usage.logprob, abs=1e-3)  # type: ignore[union-attr]
    assert len({text_of(chunks)[:20] for chunks in alone[:4]}) == 4
    engine.make_resident(())
    assert text_of(ask(engine)) == text_of(ask(engine, max_tokens=40))


def test_the_base_comes_back(engine: TransformersEngine, tmp_path: Path) -> None:
    before = ask(engine, logprobs=True)
    engine.make_resident(adapters(tmp_path))
    ask(engine, adapter=adapters(tmp_path)[0].digest)
    assert [c.tokens for c in ask(engine, logprobs=True)] == [c.tokens for c in before]
    engine.make_resident(())
    assert [c.tokens for c in ask(engine, logprobs=True)] == [c.tokens for c in before]


def test_what_is_wrong_with_an_adapter_leaves_the_others(engine: TransformersEngine, tmp_path: Path) -> None:
    good, *_ = adapters(tmp_path)
    engine.make_resident([good])
    before = text_of(ask(engine, adapter=good.digest))
    strange = {f"lm.{name}": tensor for name, tensor in tiny.adapter_tensors(0).items()}
    with pytest.raises(AdapterMismatch):
        engine.make_resident([good, tiny.read(tiny.write_adapter(tmp_path / "strange", strange))])
    with pytest.raises(AdapterMismatch, match=r"a GGUF adapter, which only llama\.cpp takes"):
        engine.make_resident([good, adapter_at(made(tmp_path / "a.gguf"))])
    assert text_of(ask(engine, adapter=good.digest)) == before
    with pytest.raises(GenerationError, match="is not resident"):
        ask(engine, adapter="0" * 64)
    engine.make_resident(())


def test_a_batch_that_is_too_large_for_the_memory_is_halved(folder: Path) -> None:
    opened = open_engine(str(folder), EngineSettings())
    forward = opened._model.forward

    def small(*args: Any, **more: Any) -> Any:
        if more["input_ids"].shape[0] > 2:
            raise torch.OutOfMemoryError("no room")
        return forward(*args, **more)

    requests = [Request(opened.render(f"{PROMPT} {n}"), GenerateOptions(max_tokens=8), None) for n in range(7)]
    alone = [text_of(list(opened.generate(r.text, r.options, None))) for r in requests]
    opened._model.forward = small
    texts = [""] * 7
    for place, item in opened.generate_batch(requests, lambda _: False):
        assert isinstance(item, Chunk)
        texts[place] += item.text
    assert texts == alone
    assert opened.batch == 1
    opened._model.forward = forward
    opened.close()


def test_weights_that_hold_no_numbers_end_their_own_row_only(tmp_path: Path, engine: TransformersEngine) -> None:
    huge = {name: tensor * 1e30 for name, tensor in tiny.adapter_tensors(3).items()}
    adapter = tiny.read(tiny.write_adapter(tmp_path / "huge", huge))
    engine.make_resident([adapter])
    requests = [
        Request(engine.render(PROMPT), GenerateOptions(max_tokens=5), digest) for digest in (None, adapter.digest)
    ]
    items = list(engine.generate_batch(requests, lambda _: False))
    assert [place for place, item in items if isinstance(item, GenerationError)] == [1]
    assert [i.finish_reason for place, i in items if place == 0 and isinstance(i, Chunk)][-1] == "length"
    engine.make_resident(())


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    pickled = tiny.write_base(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights"):
        open_engine(str(pickled), EngineSettings())
    unknown = tiny.write_base(tmp_path / "unknown", model_type="nothing-known")
    with pytest.raises(ModelError, match="transformers can't load this model"):
        open_engine(str(unknown), EngineSettings())


def test_weights_that_lack_some_are_refused(folder: Path, tmp_path: Path) -> None:
    """The library would make up random ones, others each time."""
    from safetensors.numpy import load_file, save_file

    part = Path(shutil.copytree(folder, tmp_path / "part"))
    weights = load_file(part / "model.safetensors")
    for name in [name for name in weights if ".layers.1.mlp." in name]:
        del weights[name]
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks 3 of the model's weights \(model\.layers\.1\.mlp\.down_proj\.weight, "
    ):
        open_engine(str(part), EngineSettings())


@pytest.mark.parametrize("more", ["layers.9.self_attn.q_proj.weight", "layers.1.self_attn.q_proj.bias"])
def test_weights_that_the_layers_have_no_place_for_are_refused(folder: Path, tmp_path: Path, more: str) -> None:
    from safetensors.numpy import load_file, save_file

    part = Path(shutil.copytree(folder, tmp_path / "part"))
    weights = load_file(part / "model.safetensors")
    like = weights["model.layers.1.self_attn.q_proj.weight"]
    weights[f"vision.{more}"] = like  # of a part that a model for text has not
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    open_engine(str(part), EngineSettings()).close()
    weights[f"model.{more}"] = like
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"1 weights of layers .* has no place for \(model\.{re.escape(more)}\)"):
        open_engine(str(part), EngineSettings())
