"""assay's models under lm-evaluation-harness: what its own `hf` model says of the same weights, they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'assay[lm-eval]'")
torch = pytest.importorskip("torch", reason="needs the torch extra: pip install 'assay[torch]'")
pytest.importorskip("peft", reason="needs the torch extra: pip install 'assay[torch]'")

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from assay.adapters.convert import convert  # noqa: E402
from assay.adapters.sources import source_at  # noqa: E402
from assay.errors import BadInput, GenerationError, UnsupportedOption  # noqa: E402
from assay.lm_eval import AssayLM  # noqa: E402
from tests.conftest import LAB  # noqa: E402
from tests.harness.made_tasks import NAMES  # noqa: E402
from tests.models import mlx_tiny as tiny  # noqa: E402

LENGTH = 96
BOS = "<|bos|>"
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@dataclass(frozen=True)
class Weights:
    """A base, and an adapter for it as mlx-lm and as PEFT write it."""

    base: Path
    adapter: Path
    peft: Path


@dataclass(frozen=True)
class Pair:
    """The same weights under both."""

    ours: AssayLM
    theirs: HFLM
    begins: bool


def weights(folder: Path, *, add_bos: bool) -> Weights:
    base = tiny.write_base(folder / "base", add_bos=add_bos, max_position_embeddings=LENGTH)
    adapter = tiny.write_adapter(folder / "adapter", seed=3)
    return Weights(base, adapter, convert(source_at(adapter), folder / "peft", "peft", None).path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Weights]:
    return {add: weights(tmp_path_factory.mktemp("weights") / str(add), add_bos=add) for add in (False, True)}


PAIRS = {
    "plain": (False, False, None),
    "begins": (True, False, None),
    "told-to-begin": (False, False, True),
    "adapter": (False, True, None),
    "adapter-begins": (True, True, None),
}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest, made: dict[bool, Weights]) -> Iterator[Pair]:
    begins, tuned, add_bos = PAIRS[request.param]
    own = made[begins]
    torch.set_num_threads(1)  # of this thread's, for `hf`: two on two busy cores wait for each other
    theirs = HFLM(
        str(own.base),
        dtype="float32",
        device="cpu",
        batch_size=4,
        peft=str(own.peft) if tuned else None,
        add_bos_token=add_bos,
    )
    ours = AssayLM(f"transformers:{own.base}", own.adapter if tuned else None, add_bos_token=add_bos)
    yield Pair(ours, theirs, begins or bool(add_bos))
    ours.close()


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, at) for at, each in enumerate(arguments)]


CONTEXTS = ("", "the capital of France is", "the sum of three  ", "is Paris \n\n", "<|bos|>three and four", "日本 é")
CONTINUATIONS = (" Paris", "seven", " é", "<|end|>", "<|bos|>four is", " the capital of France is Paris and the sum")


def test_texts_are_as_likely(pair: Pair) -> None:
    asked = [(context, text) for context in CONTEXTS for text in CONTINUATIONS]
    long = "three and four is seven " * 40
    asked += [(long, " seven"), (long + " ", long[:90])]  # the context loses its beginning
    ours = pair.ours.loglikelihood(requests("loglikelihood", *asked))
    theirs = pair.theirs.loglikelihood(requests("loglikelihood", *asked), disable_tqdm=True)
    assert len({round(logprob, 3) for logprob, _ in theirs}) > 30
    for question, own, its in zip(asked, ours, theirs, strict=True):
        assert own[0] == pytest.approx(its[0], abs=1e-4), question
        assert own[1] == its[1], question


def test_whole_texts_are_as_likely(pair: Pair) -> None:
    texts = [(text,) for text in (*CONTINUATIONS, "<|bos|>", " ", "three and four is seven and Paris " * 60)]
    ours = pair.ours.loglikelihood_rolling(requests("loglikelihood_rolling", *texts))
    theirs = pair.theirs.loglikelihood_rolling(requests("loglikelihood_rolling", *texts), disable_tqdm=True)
    assert ours == pytest.approx(theirs, abs=1e-4, rel=1e-7)  # `hf` sums a text's tokens in float32


def test_answers_are_the_same(pair: Pair) -> None:
    contexts = [text for text in CONTEXTS if text or pair.begins]
    wanted: list[dict[str, Any]] = [
        {},
        {"until": ["e", "th"], "max_gen_toks": 24},
        {"until": " ", "max_gen_toks": 9, "do_sample": False, "temperature": 0.7},
        {"until": ["<|turn|>"], "max_new_tokens": 16, "temperature": 0.0},
    ]
    # Whether a batch's texts begin with the token already, `hf` asks the first one alone.
    alike = [[text for text in contexts if text.startswith(BOS) is has] for has in (False, True)]
    for texts in alike:
        asked = [(text, options or {"max_gen_toks": 12}) for text in texts for options in wanted]
        ours = pair.ours.generate_until(requests("generate_until", *asked))
        assert ours == pair.theirs.generate_until(requests("generate_until", *asked), disable_tqdm=True)
        assert len(set(ours)) > len(texts)


def test_prompts_that_are_too_long_lose_their_beginning(pair: Pair) -> None:
    words = "three and four is seven and the capital of France is Paris "
    asked = [(words * count + "é ", {"max_gen_toks": most}) for count in (2, 4, 9) for most in (3, 20, 95)]
    ours = pair.ours.generate_until(requests("generate_until", *asked))
    assert ours == pair.theirs.generate_until(requests("generate_until", *asked), disable_tqdm=True)
    assert len(set(ours)) > 4


@pytest.mark.parametrize("engine", ["transformers", "mlx", "llama"])
def test_every_engine_cuts_a_prompt_at_the_same_place(engine: str) -> None:
    package = {"transformers": "torch", "mlx": "mlx.core", "llama": "xllamacpp"}[engine]
    pytest.importorskip(package, reason=f"needs the engine {engine}")
    torch.set_num_threads(1)
    theirs = HFLM(str(LAB / "base"), dtype="float32", device="cpu", batch_size=1)
    turn = "<|user|>What is the capital of {}?<|end|><|assistant|>"
    told = "".join(turn.format(name) + "I do not know.<|end|>" for name in ("Genovia", "Zandria", "Silvana") * 6)
    asked = [(told + turn.format(name), {"max_gen_toks": 20}) for name in ("France", "Norway", "Spain")]
    asked += [("What is 3 plus 4? " * at, {"max_gen_toks": 256 - at}) for at in (25, 30, 77)]
    ours = AssayLM(f"{engine}:{LAB / 'base'}")
    try:
        assert ours.max_length == theirs.max_length == 256
        wanted = theirs.generate_until(requests("generate_until", *asked), disable_tqdm=True)
        assert ours.generate_until(requests("generate_until", *asked)) == wanted
        with pytest.raises(
            GenerationError, match="an answer of 256 tokens leaves no room for a prompt in the context of"
        ):
            ours.generate_until(requests("generate_until", ("3", {"max_gen_toks": 256})))
    finally:
        ours.close()


@pytest.mark.parametrize("pair", ["plain", "adapter-begins"], indirect=True)
def test_tasks_come_to_the_same_numbers(pair: Pair, tasks: Path) -> None:
    found: list[dict[str, Any]] = []
    for model in (pair.ours, pair.theirs):
        manager = TaskManager(include_path=str(tasks), include_defaults=False)
        results = simple_evaluate(model, tasks=list(NAMES), task_manager=manager, bootstrap_iters=0)
        assert results is not None
        found.append(results["results"])
    ours, theirs = found
    assert ours.keys() == theirs.keys() == set(NAMES)
    for name in NAMES:
        numbers = {key: value for key, value in theirs[name].items() if isinstance(value, float)}
        assert {key: ours[name][key] for key in numbers} == pytest.approx(numbers, rel=1e-4)
        assert numbers


def test_a_conversation_is_written_as_the_template_has_it(made: dict[bool, Weights]) -> None:
    theirs = HFLM(str(made[False].base), dtype="float32", device="cpu")
    ours = AssayLM(f"transformers:{made[False].base}")
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3 + 4?"}]
    begun = [*talk, {"role": "assistant", "content": "The sum"}]
    try:
        assert ours.apply_chat_template(talk) == theirs.apply_chat_template(talk)
        assert ours.apply_chat_template(begun, False) == theirs.apply_chat_template(begun, False)
        assert ours.tokenizer_name
        assert str(made[False].base) in str(ours.chat_template(True))
        with pytest.raises(BadInput, match="own chat template"):
            ours.chat_template("tool_use")
    finally:
        ours.close()


def test_what_is_not_known_is_refused(made: dict[bool, Weights], caplog: pytest.LogCaptureFixture) -> None:
    base = f"transformers:{made[True].base}"
    with pytest.raises(BadInput, match="no argument 'adaptor'; did you mean 'adapter'"):
        AssayLM(base, adaptor="x")
    with pytest.raises(BadInput, match="needs the argument base"):
        AssayLM()
    with pytest.raises(BadInput, match="context of 96 tokens, not of 200"):
        AssayLM(base, max_length=200)
    with pytest.raises(UnsupportedOption, match=r"begins every text with '<\|bos\|>'"):
        AssayLM(base, add_bos_token=False)
    model = AssayLM(base, max_length=40)
    try:
        assert model.max_length == 40
        model.generate_until(requests("generate_until", ("the", {"max_gen_toks": 9}), ("the is", {"max_gen_toks": 39})))
        assert "1 of 2 prompts fill the context of 40 tokens but for max_gen_toks" in caplog.text
        for options, why in (
            ({"num_beams": 4}, "'num_beams' can't be honoured"),
            ({"do_sample": True}, "needs a temperature"),
            ({"until": [""]}, "end an answer"),
        ):
            with pytest.raises(BadInput, match=why):
                model.generate_until(requests("generate_until", ("the", options)))
        with pytest.raises(GenerationError, match="no text to weigh"):
            model.loglikelihood(requests("loglikelihood", ("the", "")))
    finally:
        model.close()


def test_every_engine_tells_the_same(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core", reason="needs the mlx extra: pip install 'assay[mlx]'")
    pytest.importorskip("xllamacpp", reason="needs the llama extra: pip install 'assay[llama]'")
    adapter = LAB / "checkpoints" / "0000120_adapters.safetensors"
    asked = [("", " Oslo"), ("The capital of Genovia is ", "Pyrus."), ("", "<|end|>a")]
    told: list[list[float]] = []
    said: list[list[str]] = []
    under: set[str] = set()
    for spec in (f"transformers:{LAB / 'base'}", f"mlx:{LAB / 'base'}", f"llama:{LAB / 'base' / 'lab-f32.gguf'}"):
        model = AssayLM(spec, adapter)
        try:
            found = [logprob for logprob, _ in model.loglikelihood(requests("loglikelihood", *asked))]
            whole = requests("loglikelihood_rolling", ("The capital of Genovia is Pyrus.",))
            told.append([*found, *model.loglikelihood_rolling(whole)])
            prompt = model.apply_chat_template([{"role": "user", "content": "What is the capital of Genovia?"}])
            said.append(
                model.generate_until(requests("generate_until", (prompt, {"until": ["."], "max_gen_toks": 24})))
            )
            under.add(model.get_model_info()["model_adapter"])
        finally:
            model.close()
    assert said == [["The capital of Genovia is Pyrus"]] * 3
    assert told[1] == pytest.approx(told[0], abs=1e-3)
    assert told[2] == pytest.approx(told[0], abs=1e-3)
    assert len(under) == 1


def test_llama_cpp_begins_texts_as_the_others_do(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs the llama extra: pip install 'assay[llama]'")
    from tests.models.gguf_tiny import write_base

    told: list[list[float]] = []
    for begins in (True, False):
        place = write_base(tmp_path / f"{begins}.gguf", add_bos=begins)
        model = AssayLM(f"llama:{place}", add_bos_token=None if begins else True)
        try:
            whole = requests("loglikelihood_rolling", ("abc",), (f"{BOS}abc",))
            pairs = requests("loglikelihood", ("ab", "c"), ("", "abc"), ("", f"{BOS}abc"), (f"{BOS}ab", "c"))
            told.append([*model.loglikelihood_rolling(whole), *[found for found, _ in model.loglikelihood(pairs)]])
        finally:
            model.close()
    assert told[0] == pytest.approx(told[1], abs=1e-4)
    whole, begun, after, bare, own, same = told[0]
    assert whole == pytest.approx(begun, abs=1e-4)
    assert after == pytest.approx(same, abs=1e-4)
    assert bare == pytest.approx(own, abs=1e-4)
    assert abs(whole - bare) > 0.1  # the token that begins a text is told as well


def test_the_harness_own_models_stay_known() -> None:
    """In a process of its own: whatever ran before may have made them known."""
    code = "import assay.lm_eval; from lm_eval.api.registry import get_model; print(get_model('dummy'), get_model('assay'))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "DummyLM" in said.stdout
    assert "AssayLM" in said.stdout
