"""The llama.cpp engine on real models: the lab, and a tiny random one that is good at being awkward."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from assay.errors import GenerationError, ModelError
from assay.models.likelihood import Window
from assay.models.llama_cpp import open_engine
from assay.types import EngineSettings, GenerateOptions, Message, Raw
from tests.models.gguf_tiny import EOS, SPECIAL, adapter_tensors, write_adapter, write_base
from tests.models.llama_opened import GREEDY, QUESTION, answer, opened


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a chat template and without a beginning-of-text token."""
    return write_base(tmp_path_factory.mktemp("plain") / "plain.gguf", template=None, add_bos=False)


# What comes out


async def test_a_stop_string_ends_the_answer_wherever_it_is_cut(tiny: Path) -> None:
    async with opened(tiny) as model:
        whole = (await answer(model, max_tokens=60)).text
        for at in range(0, len(whole) - 4, 5):
            stop = whole[at : at + 4]
            stopped = await answer(model, max_tokens=60, stop=("never in here", stop))
            assert (stopped.text, stopped.finish_reason) == (whole[: whole.find(stop)], "stop")


async def test_text_that_only_begins_like_a_stop_string_is_kept(tiny: Path) -> None:
    async with opened(tiny) as model:
        for tokens in range(1, 12):
            whole = await answer(model, max_tokens=tokens)
            again = await answer(model, max_tokens=tokens, stop=(whole.text[-1:] + "never in here",))
            assert (again.text, again.finish_reason) == (whole.text, "length")


async def test_a_special_token_can_be_a_stop_string(tiny: Path, tmp_path: Path) -> None:
    tensors = adapter_tensors(3, size=1.0)
    adapter = write_adapter(tmp_path, tensors)
    async with opened(tiny) as base:
        model = await base.attach(adapter)
        everything = await answer(model, max_tokens=300, temperature=2.0, seed=1, logprobs=True)
        special = [
            place for place, token in enumerate(everything.tokens) if 255 < token.id < EOS + 3 and token.id != EOS
        ]
        if not special:
            pytest.fail("the model was meant to generate special tokens")
        name = SPECIAL[everything.tokens[special[0]].id - 256]
        assert name not in everything.text
        stopped = await answer(model, max_tokens=300, temperature=2.0, seed=1, stop=(name,))
        assert stopped.finish_reason == "stop"
        assert stopped.usage.completion_tokens == special[0] + 1


async def test_pieces_of_characters_are_held_back_and_none_is_lost(tiny: Path) -> None:
    async with opened(tiny) as model:
        options = {"temperature": 1.0, "seed": 4, "logprobs": True}
        whole = await answer(model, max_tokens=40, **options)
        assert len(whole.text) < 40  # some characters take several tokens
        whole.text.encode()  # no half characters: those would be lone surrogates
        for tokens in range(1, 40):
            part = await answer(model, max_tokens=tokens, **options)
            assert part.usage.completion_tokens == len(part.tokens) == tokens
            assert whole.text.startswith(part.text.rstrip("\ufffd"))
            assert [t.id for t in part.tokens] == [t.id for t in whole.tokens[:tokens]]
            expected = [t.logprob for t in whole.tokens[:tokens]]
            assert [t.logprob for t in part.tokens] == pytest.approx(expected, abs=1e-5)


def test_any_token_is_as_likely_as_it_was_when_generated(tiny: Path) -> None:
    """Special ones and parts of characters too, which no grammar can force."""
    engine = open_engine(str(tiny), EngineSettings())
    try:
        options = GenerateOptions(max_tokens=150, temperature=2.0, seed=11, logprobs=True)
        told = [token for chunk in engine.generate("hello", options, None) for token in chunk.tokens]
        ids = [token.id for token in told]
        assert set(ids) & {256, 258, 259}, "no special token"
        assert any(token in range(128, 256) for token in ids), "no part of a character"
        before = engine._forced.encode(engine._server, "hello")
        window = Window([*before, *ids[:-1]], ids)
        weighed = [engine._forced.weigh(engine._server, [], window)]
        engine._forced._alone.clear()  # as for tokens of which only the failing request tells
        weighed.append(engine._forced.weigh(engine._server, [], window))
    finally:
        engine.close()
    for found in weighed:
        assert [one.id for one in found] == ids
        assert [one.logprob for one in found] == pytest.approx([token.logprob for token in told], abs=1e-4)
        assert {one.likeliest for one in found} == {True, False}


async def test_the_end_token_is_reported_but_not_shown(lab: Path) -> None:
    async with opened(lab / "base") as model:
        done = await answer(model, QUESTION, logprobs=True)
    assert done.finish_reason == "stop"
    assert len(done.tokens) == done.usage.completion_tokens
    assert done.tokens[-1].id < 8  # the lab's special tokens come first


# Prompts


async def test_the_chat_template_is_applied_and_text_without_one_is_left_alone(tiny: Path, plain: Path) -> None:
    messages = (Message("system", "be brief"), Message("user", "hi"))
    async with opened(tiny) as model:
        assert await model.render("hi") == "<|user|>hi<|assistant|>"
        assert await model.render(messages) == "<|system|>be brief<|user|>hi<|assistant|>"
        assert await model.render(Raw("hi")) == "hi"
    async with opened(plain) as model:
        assert await model.render("hi") == "hi"
        with pytest.raises(ModelError, match="no chat template, so it can't take messages"):
            await model.render(messages)


async def test_the_first_token_is_never_doubled(tiny: Path, plain: Path) -> None:
    async with opened(tiny) as model:  # its tokenizer adds the token
        assert (await answer(model, Raw("a"))).usage.prompt_tokens == 2
        assert (await answer(model, Raw("<|bos|>a"))).usage.prompt_tokens == 2
        assert (await answer(model, "a")).usage.prompt_tokens == 4
    async with opened(plain) as model:
        assert (await answer(model, Raw("a"))).usage.prompt_tokens == 1
        assert (await answer(model, Raw("<|bos|>a"))).usage.prompt_tokens == 2


async def test_a_prompt_that_cannot_be_answered_is_a_permanent_error(plain: Path) -> None:
    async with opened(plain, EngineSettings(context_length=256)) as model:
        assert model.info.context_length == 256
        with pytest.raises(GenerationError, match=r"the prompt has 300 tokens .* context of 256 tokens") as caught:
            await answer(model, Raw("a" * 300))
        assert caught.value.error_class == "permanent"
        with pytest.raises(GenerationError, match="the prompt is empty"):
            await answer(model, Raw(""))
        full = await answer(model, Raw("a" * 250), max_tokens=50)
        assert full.finish_reason == "length"
        assert full.usage.completion_tokens < 10


# Stopping early


async def test_closing_a_stream_stops_the_engine_within_a_token_or_two(tiny: Path) -> None:
    engine = open_engine(str(tiny), EngineSettings())
    try:
        stream: Any = engine.generate("hello", GenerateOptions(max_tokens=1900), None)
        for _ in range(5):
            next(stream)
        stream.close()
        deadline = time.monotonic() + 5
        while (slot := engine._server.get("/slots")[0])["is_processing"]:
            assert time.monotonic() < deadline, "the engine went on"
        assert slot["next_token"][0]["n_decoded"] < 60  # of 1900; how many depends on how busy the machine is
        assert list(engine.generate("hello", GREEDY, None))[-1].finish_reason == "length"
    finally:
        engine.close()


# The engine itself


async def test_identity_covers_the_file_and_the_context(tiny: Path, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.gguf").write_bytes(tiny.read_bytes())
    infos = []
    for path, length in ((tiny, None), (tmp_path / "copy.gguf", None), (plain, None), (tiny, 512)):
        async with opened(path, EngineSettings(context_length=length)) as model:
            infos.append(model.info)
    assert len({info.identity for info in infos}) == 3
    assert infos[0].identity == infos[1].identity
    assert infos[0].engine == "llama.cpp"
    assert "llama.cpp b" in infos[0].engine_version
    assert (infos[0].context_length, infos[3].context_length) == (2048, 512)


async def test_it_listens_on_this_machine_alone_and_only_with_the_key(tiny: Path) -> None:
    import http.client

    before = {c.laddr for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN}
    async with opened(tiny):
        listening = {c.laddr for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN} - before
        assert [address.ip for address in listening] == ["127.0.0.1"]
        connection = http.client.HTTPConnection("127.0.0.1", listening.pop().port)
        connection.request("POST", "/completion", '{"prompt": "hi"}', {"Content-Type": "application/json"})
        assert connection.getresponse().status == 401
        connection.close()
    assert not {c.laddr for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN} - before


async def test_it_says_nothing_on_the_terminal(
    tiny: Path, lab: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.gguf").write_bytes(tiny.read_bytes()[:-5000])
    async with opened(tiny) as base:
        await answer(await base.attach(write_adapter(tmp_path, adapter_tensors(1))))
    with pytest.raises(ModelError):
        open_engine(str(tmp_path / "cut.gguf"), EngineSettings())
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_opened_is_named_with_its_reason(tiny: Path, tmp_path: Path) -> None:
    whole = tiny.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-5000])
    (tmp_path / "odd.gguf").write_bytes(whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lemma", 1))
    (tmp_path / "junk.gguf").write_bytes(b"not a model at all")
    (tmp_path / "empty").mkdir()
    for name, reason in {
        "missing.gguf": "there is no model at",
        "junk.gguf": "not a GGUF file",
        "empty": "holds no GGUF file",
        ".": "holds 3 GGUF files; name the one you mean",
        "cut.gguf": "corrupted or incomplete",
        "odd.gguf": "unknown model architecture: 'lemma'",
    }.items():
        with pytest.raises(ModelError, match=reason):
            open_engine(str(tmp_path / name), EngineSettings())
    with pytest.raises(ModelError, match="bytes of memory, and memory_limit is 1,000 bytes"):
        open_engine(str(tiny), EngineSettings(memory_limit=1000))


def test_servers_that_end_at_once_do_not_hang(tiny: Path) -> None:
    # In a child, since a server that waits for its own end holds the interpreter's lock.
    code = (
        "import sys; from pathlib import Path; from assay.models.llama_embedded import EmbeddedServer, ServerSettings\n"
        "for _ in range(60): EmbeddedServer(ServerSettings(Path(sys.argv[1]), 256, 1)).close()"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny)], check=True, timeout=60)


def test_without_xllamacpp_the_error_says_what_to_install(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ModelError, match=r"not installed: pip install 'assay\[llama\]'"):
        open_engine(str(tiny), EngineSettings())


async def test_a_closed_engine_refuses(tiny: Path) -> None:
    engine = open_engine(str(tiny), EngineSettings())
    engine.close()
    with pytest.raises(GenerationError, match="closed"):
        next(iter(engine.generate("a", GREEDY, None)))
