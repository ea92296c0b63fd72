"""The MLX engine's text: rendering, sampling, stopping, limits, refusals. Real models, tiny and random."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

mx = pytest.importorskip("mlx.core", reason="needs the mlx extra")

import numpy as np  # noqa: E402

from assay.errors import GenerationError, ModelError  # noqa: E402
from assay.models.mlx import MlxEngine, open_engine  # noqa: E402
from assay.types import Chunk, EngineSettings, GenerateOptions, Message, Raw, Token  # noqa: E402
from tests.models import mlx_tiny as tiny  # noqa: E402

PROMPT = "What is the capital of France?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("mlx") / "base")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[MlxEngine]:
    opened = open_engine(str(folder), EngineSettings())
    yield opened
    opened.close()


def ask(engine: MlxEngine, text: str | None = None, adapter: str | None = None, **options: object) -> list[Chunk]:
    settings = GenerateOptions(**{"max_tokens": 40, **options})  # type: ignore[arg-type]
    return list(engine.generate(engine.render(PROMPT) if text is None else text, settings, adapter))


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def tokens_of(chunks: list[Chunk]) -> list[Token]:
    return [token for chunk in chunks for token in chunk.tokens]


def test_info(engine: MlxEngine, folder: Path) -> None:
    info = engine.info
    assert (info.name, info.engine) == (f"mlx:{folder}", "mlx")
    assert info.engine_version.startswith(f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}, ")
    assert info.engine_version.endswith(", float32")
    assert (info.context_length, info.concurrency, info.resident_adapters, info.declared) == (256, 4, 16, False)


def test_identity_follows_every_file_that_decides_answers(tmp_path: Path) -> None:
    def identity(name: str, **config: object) -> str:
        opened = open_engine(str(tiny.write_base(tmp_path / name, **config)), EngineSettings())  # type: ignore[arg-type]
        opened.close()
        return opened.info.identity

    same = {identity("a"), identity("b")}
    others = {identity("c", seed=1), identity("d", template=False), identity("e", add_bos=True), identity("f", x=1)}
    assert len(same) == 1
    assert len(same | others) == 5


def test_render(engine: MlxEngine, tmp_path: Path) -> None:
    assert engine.render("hi") == "<|bos|><|turn|>user: hi<|end|><|turn|>assistant: "
    turns = [Message("system", "be brief"), Message("user", "hi")]
    assert engine.render(turns).startswith("<|bos|><|turn|>system: be brief<|end|><|turn|>user: hi<|end|>")
    assert engine.render(Raw("as <|it|> is ")) == "as <|it|> is "
    bare = open_engine(str(tiny.write_base(tmp_path / "bare", template=False)), EngineSettings())
    assert bare.render("hi") == "hi"
    with pytest.raises(ModelError, match="no chat template"):
        bare.render(turns)
    bare.close()


def test_template_that_refuses(tmp_path: Path) -> None:
    folder = tiny.write_base(tmp_path / "strict")
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about["chat_template"] = "{{ raise_exception('no system role here') }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    strict = open_engine(str(folder), EngineSettings())
    with pytest.raises(ModelError, match=r"refuses the messages \(user: 'hi'\): no system role here"):
        strict.render("hi")
    strict.close()


def test_beginning_of_text_is_never_doubled(tmp_path: Path) -> None:
    adding = open_engine(str(tiny.write_base(tmp_path / "bos", add_bos=True)), EngineSettings())
    written, plain = ask(adding, "<|bos|>hello", max_tokens=3), ask(adding, "hello", max_tokens=3)
    assert text_of(written) == text_of(plain)
    assert written[-1].usage is not None
    assert plain[-1].usage is not None
    assert (
        written[-1].usage.prompt_tokens
        == plain[-1].usage.prompt_tokens
        == 1 + len(tiny.tokenizer().encode("hello").ids)
    )
    adding.close()
    never = open_engine(str(tiny.write_base(tmp_path / "none")), EngineSettings())
    assert never._text.encode("hello") == tiny.tokenizer().encode("hello").ids
    never.close()


def test_chunks_are_the_whole_text_and_only_the_last_is_final(engine: MlxEngine) -> None:
    chunks = ask(engine, max_tokens=200, logprobs=True, temperature=1.0, seed=4)
    ids = [token.id for token in tokens_of(chunks) if token.id != 0]
    assert text_of(chunks) == engine._tokenizer.decode(ids, skip_special_tokens=True)
    assert not any("\ufffd" in c.text and c.text.endswith("\ufffd") for c in chunks[:-1])
    assert all(chunk.finish_reason is None and chunk.usage is None for chunk in chunks[:-1])
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == len(tokens_of(chunks))
    assert usage.prompt_tokens == len(engine._text.encode(engine.render(PROMPT)))
    assert usage.seconds > 0


def test_leading_space_survives(engine: MlxEngine) -> None:
    """mlx-lm's own detokenizer drops it, which changes the answer to a raw prompt."""
    for seed in range(200):
        chunks = ask(engine, "a", max_tokens=2, temperature=2.0, seed=seed, logprobs=True)
        first = engine._tokenizer.decode([tokens_of(chunks)[0].id], skip_special_tokens=True)
        if first.startswith(" "):
            assert text_of(chunks).startswith(" ")
            return
    pytest.fail("no sample began with a space")


def reference_logprobs(engine: MlxEngine, text: str, tokens: list[Token]) -> list[float]:
    """Log-probabilities of the tokens from one forward pass over the whole, without a cache."""
    prompt = engine._text.encode(text)
    ids = [token.id for token in tokens]
    logits = engine._model(mx.array([prompt + ids]))[0, len(prompt) - 1 : -1].astype(mx.float32)
    exact = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return [exact[i, t].item() for i, t in enumerate(ids)]


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.7, "seed": 1, "top_k": 20, "top_p": 0.9}, {"repeat_penalty": 1.5}],
    ids=["greedy", "sampled", "penalty"],
)
def test_logprobs_are_the_models_own(engine: MlxEngine, options: dict[str, object]) -> None:
    text = engine.render(PROMPT)
    tokens = tokens_of(ask(engine, logprobs=True, **options))
    assert [t.logprob for t in tokens] == pytest.approx(reference_logprobs(engine, text, tokens), abs=1e-4)
    assert all(token.logprob <= 0 for token in tokens)
    assert text_of(ask(engine, logprobs=True, **options)) == text_of(ask(engine, **options))
    assert tokens_of(ask(engine, **options)) == []


def test_end_of_text_is_never_shown(tmp_path: Path) -> None:
    folder = tiny.write_base(tmp_path / "ending")
    greedy = open_engine(str(folder), EngineSettings())
    ids = [token.id for token in tokens_of(ask(greedy, logprobs=True))]
    last = next(i for i in range(3, 40) if ids[i] not in ids[:i] and ids[i] > 2)
    greedy.close()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, ids[last]]}))
    ending = open_engine(str(folder), EngineSettings())
    chunks = ask(ending, logprobs=True)
    assert [token.id for token in tokens_of(chunks)] == ids[: last + 1]
    assert text_of(chunks) == ending._tokenizer.decode(ids[:last], skip_special_tokens=True)
    assert chunks[-1].finish_reason == "stop"
    exact = ask(ending, max_tokens=last)  # the end would have come next, but was not asked for
    assert (text_of(exact), exact[-1].finish_reason) == (text_of(chunks), "length")
    ending.close()


def test_special_token_as_stop_string(engine: MlxEngine) -> None:
    for seed in range(100):
        options = {"temperature": 2.0, "seed": seed, "max_tokens": 60}
        ids = [token.id for token in tokens_of(ask(engine, logprobs=True, **options))]
        if 2 in ids[2:] and 0 not in ids:
            chunks = ask(engine, stop=("<|turn|>",), **options)
            assert chunks[-1].finish_reason == "stop"
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.completion_tokens == ids.index(2) + 1
            return
    pytest.fail("no sample held the token")


def test_context(tmp_path: Path) -> None:
    small = open_engine(str(tiny.write_base(tmp_path / "small", max_position_embeddings=40)), EngineSettings())
    full = ask(small, Raw("a" * 35), max_tokens=100, logprobs=True, temperature=0.0)
    assert full[-1].finish_reason == "length"
    assert full[-1].usage is not None
    assert full[-1].usage.prompt_tokens + full[-1].usage.completion_tokens == 40
    assert ask(small, Raw("a" * 39))[-1].usage.completion_tokens == 1  # type: ignore[union-attr]
    for length in (40, 200):
        with pytest.raises(GenerationError, match=f"prompt has {length} tokens .* context of 40") as caught:
            ask(small, Raw("a" * length))
        assert caught.value.error_class == "permanent"
    with pytest.raises(GenerationError, match="prompt is empty"):
        ask(small, "")
    small.close()
    settings = EngineSettings(context_length=30)
    shorter = open_engine(str(tmp_path / "small"), settings)
    assert shorter.info.context_length == 30
    shorter.close()


def test_a_thread_that_ends_takes_nothing_of_mlxs_along(folder: Path) -> None:
    def use() -> None:
        opened = open_engine(str(folder), EngineSettings())
        assert ask(opened)
        opened.close()
        mx.eval(mx.ones(1) + 1)

    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="no Stream"):
        pool.submit(use).result()


def test_memory_limits_are_set_and_given_back(folder: Path) -> None:
    before = mx.set_cache_limit(123_456_789)
    mx.set_cache_limit(before)
    limited = open_engine(str(folder), EngineSettings(memory_limit=2_000_000_000, cache_limit=1_000_000))
    assert mx.set_cache_limit(1_000_000) == 1_000_000
    assert mx.set_memory_limit(2_000_000_000) == 2_000_000_000
    limited.close()
    assert mx.set_cache_limit(before) == before


ROPE = {"rope_type": "default", "rope_theta": 500.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ({"rope_theta": None, "rope_parameters": ROPE}, {"rope_theta": 500.0}),
        (
            {
                "rope_theta": None,
                "rope_parameters": {**LLAMA3, "rope_theta": 500.0, "original_max_position_embeddings": 16},
            },
            {"rope_theta": 500.0, "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}},
        ),
    ],
    ids=["default", "llama3"],
)
def test_rope_parameters_are_not_lost(tmp_path: Path, new: dict[str, object], old: dict[str, object]) -> None:
    ids = mx.array([list(range(3, 60))])
    logits = []
    for name, config in (("new", new), ("old", old), ("default", {})):
        opened = open_engine(str(tiny.write_base(tmp_path / name, **config)), EngineSettings())  # type: ignore[arg-type]
        logits.append(np.array(opened._model(ids)))
        opened.close()
    assert np.array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 0.1


def test_models_that_are_none(tmp_path: Path) -> None:
    def refuses(name: str, says: str) -> None:
        with pytest.raises(ModelError, match=says) as caught:
            open_engine(str(tmp_path / name), EngineSettings())
        assert "\n" not in str(caught.value)

    refuses("absent", "no such model folder")
    for name, file, says in (
        ("no-config", "config.json", "no config.json"),
        ("no-weights", "model.safetensors", "no model"),
        ("no-tokenizer", "tokenizer.json", "no tokenizer"),
    ):
        (tiny.write_base(tmp_path / name) / file).unlink()
        refuses(name, says)
    (tmp_path / "no-weights" / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    refuses("no-weights", "pickled weights")
    cut = tiny.write_base(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    refuses("cut", "damaged")
    (tiny.write_base(tmp_path / "garbage") / "config.json").write_text("{")
    refuses("garbage", "can't be read")
    tiny.write_base(tmp_path / "unknown", model_type="no_such_thing")
    refuses("unknown", "no_such_thing not supported")
    tiny.write_base(tmp_path / "shapes", hidden_size=64)
    refuses("shapes", "can't load this model")


def test_quiet_and_offline(folder: Path) -> None:
    """A fresh process: nothing on its terminal, no socket opened, the limit on open files as before."""
    script = f"""
        import resource, socket, sys
        def refuse(*args): raise SystemExit("network used")
        socket.socket.connect = socket.getaddrinfo = refuse
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        from assay.models.mlx import open_engine
        assert "mlx" not in sys.modules and "transformers" not in sys.modules
        from assay.types import EngineSettings, GenerateOptions
        engine = open_engine({str(folder)!r}, EngineSettings())
        list(engine.generate("a" * 200, GenerateOptions(max_tokens=3), None))
        engine.close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[0]
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
