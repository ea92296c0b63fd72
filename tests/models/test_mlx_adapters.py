"""Adapters on the MLX engine: a swap equals a fresh load, the base comes back bit for bit, and nothing mixes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlx.core", reason="needs the mlx extra")

from assay.adapters.files import base_shapes, check_against, read_adapter
from assay.adapters.named import adapter_at
from assay.errors import AdapterBroken, AdapterMismatch, GenerationError
from assay.models.local import LocalModel
from assay.models.mlx import MlxEngine, open_engine
from assay.types import Adapter, Checkpoint, EngineSettings, GenerateOptions, Token
from tests.adapters.test_gguf_lora import made
from tests.making import copied
from tests.models import mlx_tiny as tiny

LAB = Path(__file__).parents[2] / "examples" / "lab"
PROMPTS = ["What is the capital of France?", "What is 3 + 4?", "Hello!", "Name the capital of Genovia."]
QUERY = ("self_attn.q_proj", "self_attn.v_proj")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("mlx") / "base")


@pytest.fixture
def engine(folder: Path) -> Iterator[MlxEngine]:
    opened = open_engine(str(folder), EngineSettings())
    yield opened
    opened.close()


@pytest.fixture
async def model(folder: Path) -> AsyncIterator[LocalModel]:
    opened = await LocalModel.open(partial(open_engine, str(folder), EngineSettings()), "tiny")
    yield opened
    await opened.aclose()


def adapters(folder: Path) -> list[Adapter]:
    """Three of one structure, and four that differ in rank, layers, scale and keys."""
    made = [tiny.write_adapter(folder / f"same{i}", seed=i) for i in range(3)]
    few = {"lora_parameters": {"keys": list(QUERY)}}
    for i, (rank, layers, scale, keys) in enumerate(
        [
            (8, 4, 5.0, tuple(tiny.SHAPES)),
            (4, 2, 5.0, tuple(tiny.SHAPES)),
            (4, 4, 2.0, tuple(tiny.SHAPES)),
            (4, 4, 5.0, QUERY),
        ]
    ):
        config = tiny.adapter_config(rank, layers, scale, **(few if keys == QUERY else {}))
        tensors = tiny.adapter_tensors(10 + i, rank, layers, keys)
        made.append(tiny.write_adapter(folder / f"other{i}", tensors, config))
    return [tiny.read(one) for one in made]


def ask(engine: MlxEngine, prompt: str, adapter: str | None) -> tuple[str, list[Token]]:
    chunks = list(engine.generate(engine.render(prompt), GenerateOptions(max_tokens=16, logprobs=True), adapter))
    return "".join(chunk.text for chunk in chunks), [token for chunk in chunks for token in chunk.tokens]


def fresh(base: Path, adapter: Path | None, text: str, limit: int = 16) -> list[int]:
    """The token ids that mlx-lm itself generates after loading everything anew."""
    import mlx_lm
    from mlx_lm.generate import stream_generate

    loaded: Any = mlx_lm.load(str(base), adapter_path=None if adapter is None else str(adapter))
    return [int(step.token) for step in stream_generate(loaded[0], loaded[1], text, max_tokens=limit)]


def test_a_swap_equals_a_fresh_load(engine: MlxEngine, folder: Path, tmp_path: Path) -> None:
    found = adapters(tmp_path)
    engine.make_resident(found)
    before = ask(engine, PROMPTS[0], None)
    assert [token.id for token in before[1]] == fresh(folder, None, engine.render(PROMPTS[0]))
    texts = set()
    for adapter in [*found, *reversed(found)]:  # each structure after another one, in both directions
        text, tokens = ask(engine, PROMPTS[0], adapter.digest)
        assert [t.id for t in tokens] == fresh(folder, adapter.weights.parent, engine.render(PROMPTS[0]))
        texts.add(text)
    assert len(texts | {before[0]}) == len(found) + 1
    assert ask(engine, PROMPTS[0], None) == before  # log-probabilities too, bit for bit


def test_the_base_comes_back_to_the_last_bit(engine: MlxEngine, tmp_path: Path) -> None:
    before = [ask(engine, prompt, None) for prompt in PROMPTS[:2]]
    untouched = dict(engine._model.named_modules())
    for adapter in adapters(tmp_path):
        engine.make_resident([adapter])
        assert ask(engine, PROMPTS[0], adapter.digest) != before[0]
        assert [ask(engine, prompt, None) for prompt in PROMPTS[:2]] == before
    after = dict(engine._model.named_modules())
    assert after.keys() == untouched.keys()
    assert all(after[path] is untouched[path] for path in after)


def test_residents_survive_their_files_and_forgotten_ones_are_refused(engine: MlxEngine, tmp_path: Path) -> None:
    one, two, *_ = adapters(tmp_path)
    engine.make_resident([one, two])
    answer = ask(engine, PROMPTS[0], two.digest)
    two.weights.unlink()
    engine.make_resident([two])
    assert ask(engine, PROMPTS[0], two.digest) == answer
    with pytest.raises(GenerationError, match="not resident"):
        ask(engine, PROMPTS[0], one.digest)
    engine.make_resident([])
    with pytest.raises(GenerationError, match="not resident"):
        ask(engine, PROMPTS[0], two.digest)


def test_an_adapter_in_use_can_be_forgotten(engine: MlxEngine, tmp_path: Path) -> None:
    before = ask(engine, PROMPTS[0], None)
    one, *_, other = adapters(tmp_path)
    engine.make_resident([one])
    answer = ask(engine, PROMPTS[0], one.digest)
    engine.make_resident([other])
    assert ask(engine, PROMPTS[0], None) == before
    engine.make_resident([one, other])
    assert ask(engine, PROMPTS[0], one.digest) == answer


def test_mismatches_list_everything_and_leave_the_state(engine: MlxEngine, folder: Path, tmp_path: Path) -> None:
    good, *_, other = adapters(tmp_path)
    engine.make_resident([good])
    answer, base = ask(engine, PROMPTS[0], good.digest), ask(engine, PROMPTS[0], None)
    ask(engine, PROMPTS[0], good.digest)
    tensors = tiny.adapter_tensors(0)
    query = "model.layers.{}.self_attn.q_proj.lora_a"
    tensors[query.format(0)] = tensors[query.format(0)][:16]
    for leaf in ("lora_a", "lora_b"):
        tensors[f"model.layers.9.mlp.up_proj.{leaf}"] = tensors[f"model.layers.3.mlp.up_proj.{leaf}"]
    bad = tiny.read(tiny.write_adapter(tmp_path / "bad", tensors))
    with pytest.raises(AdapterMismatch) as caught:
        engine.make_resident([good, other, bad])
    with pytest.raises(AdapterMismatch, match=r"a GGUF adapter, which only llama\.cpp takes"):
        engine.make_resident([good, adapter_at(made(tmp_path / "a.gguf"))])
    expected = {
        f"{query.format(0)}: shape (16, 4), but the base wants (32, 4)",
        "model.layers.9.mlp.up_proj.lora_a: names no layer of the base",
        "model.layers.9.mlp.up_proj.lora_b: names no layer of the base",
    }
    assert set(caught.value.differences) == expected
    with pytest.raises(AdapterMismatch) as from_headers:
        check_against(bad, base_shapes(folder))
    assert set(from_headers.value.differences) == expected
    assert ask(engine, PROMPTS[0], good.digest) == answer
    assert ask(engine, PROMPTS[0], None) == base
    with pytest.raises(GenerationError, match="not resident"):
        ask(engine, PROMPTS[0], other.digest)


def test_keys_that_match_nothing_and_keys_that_are_missing(engine: MlxEngine, tmp_path: Path) -> None:
    strange = {f"transformer.h.{n}": array for n, array in tiny.adapter_tensors(0).items()}
    with pytest.raises(AdapterMismatch, match="none of the adapter's 56 tensors") as caught:
        engine.make_resident([tiny.read(tiny.write_adapter(tmp_path / "strange", strange))])
    assert len(caught.value.differences) == 56
    holes = {n: array for n, array in tiny.adapter_tensors(0).items() if not n.startswith("model.layers.2.mlp.up_proj")}
    with pytest.raises(AdapterMismatch, match=r"layers\.2\.mlp\.up_proj\.lora_a: missing in the adapter"):
        engine.make_resident([tiny.read(tiny.write_adapter(tmp_path / "holes", holes))])
    beyond = tiny.write_adapter(tmp_path / "beyond", config=tiny.adapter_config(layers=2))
    with pytest.raises(AdapterMismatch, match="28 differences"):  # four layers' tensors, a configuration for two
        engine.make_resident([tiny.read(beyond)])
    torn = tiny.read(tiny.write_adapter(tmp_path / "torn"))
    torn.weights.write_bytes(b"nonsense")
    with pytest.raises(AdapterBroken, match="can't load"):
        engine.make_resident([torn])


def lab_checkpoints() -> list[Checkpoint]:
    if not (LAB / "base" / "model.safetensors").is_file():
        pytest.skip("the lab has not been made: python examples/lab/make_lab.py")
    found = sorted((LAB / "checkpoints").rglob("[0-9]*_adapters.safetensors"))
    return [
        Checkpoint("lab", int(file.name.split("_")[0]), file, file.parent / "adapter_config.json", 0, 0)
        for file in (found[0], found[len(found) // 2], found[-1])
    ]


def test_trained_checkpoints_swap_like_fresh_loads(tmp_path: Path) -> None:
    staged = [copied(checkpoint, tmp_path) for checkpoint in lab_checkpoints()]
    for adapter in staged:
        check_against(adapter, base_shapes(LAB / "base"))
        assert read_adapter(adapter.weights, adapter.weights.parent / "adapter_config.json") == adapter
    engine = open_engine(str(LAB / "base"), EngineSettings())
    before = [ask(engine, prompt, None) for prompt in PROMPTS]
    engine.make_resident(staged)
    for prompt in PROMPTS:
        for adapter in staged:
            ids = [token.id for token in ask(engine, prompt, adapter.digest)[1]]
            assert ids == fresh(LAB / "base", adapter.weights.parent, engine.render(prompt))
    assert [ask(engine, prompt, None) for prompt in PROMPTS] == before
    assert "Paris" in before[0][0]
    engine.close()
