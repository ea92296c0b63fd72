"""Samples that are weighed and not asked: held-out loss as trainers have it, journaled, resumed, and never zero by failure."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from assay.cli.show import next_steps
from assay.errors import GenerationError, ModelError, UnsupportedOption
from assay.evaluated import Evaluation
from assay.evaluation import Subject, evaluate
from assay.models.base import ModelInfo
from assay.models.open import open_local, open_model
from assay.proof import baseline
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.lens import Lens
from assay.results.records import Finished, TextWeighed
from assay.sinks.base import About
from assay.sinks.facts import group_facts
from assay.suites.own_data import suite_from_data
from assay.suites.suite import load_suite
from assay.summaries import summaries_of
from assay.trial import Evaluations, InProcess, Trial
from assay.types import Chunk, GenerateOptions, Likelihood, Prompt, Raw, Token, Usage
from tests.cli.running import assay, bad
from tests.conftest import LAB
from tests.making import copied, discovered, written

VALID = f"perplexity:{LAB / 'data' / 'valid.jsonl'}"


@dataclass
class Scale:
    """A model of a user's own that weighs: each word costs as many nats as it has letters."""

    concurrency: int = 3
    broken: str = "nothing"
    asked: list[str] = field(default_factory=list)
    now: int = 0
    most: int = 0

    @property
    def info(self) -> ModelInfo:
        return ModelInfo("scale", "scale", "1", "id", concurrency=self.concurrency, likelihoods=True)

    async def stream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[Chunk]:
        yield Chunk("generated", "stop", Usage(1, 1))

    async def ended(self, prompt: Prompt, answer: str) -> str:
        return f"{answer} ."

    async def loglikelihood(self, prompt: Prompt, continuation: str) -> Likelihood:
        self.asked.append(continuation)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        if self.broken in continuation:
            raise GenerationError("the memory is full", error_class="transient")
        return Likelihood(tuple(Token(0, -float(len(word))) for word in continuation.split()), greedy=False)

    async def aclose(self) -> None: ...


LINES = [
    {"messages": [{"role": "user", "content": "Say it"}, {"role": "assistant", "content": "aa bbbb"}]},
    {"prompt": "And this?", "completion": "cccccc"},
    {"text": "d dd ddd dddd"},
    {"instruction": "Now", "input": "", "output": "eeeee e"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return written(tmp_path / "held.jsonl", "\n".join(map(json.dumps, LINES)))


async def test_the_mean_is_over_all_tokens_and_ends_count(data: Path) -> None:
    done = await evaluate(Scale(), suite_from_data(f"perplexity:{data}"))
    assert [text.text for one in done for text in one.weighed] == [
        "aa bbbb .",
        "cccccc .",
        "d dd ddd dddd .",
        "eeeee e .",
    ]
    nats, tokens, size = 7 + 7 + 11 + 7, 3 + 2 + 5 + 3, 7 + 6 + 13 + 7
    rows = {row["metric"]: row for row in done.averages()}
    assert rows["loss"]["mean"] == pytest.approx(nats / tokens)
    assert rows["perplexity"]["mean"] == pytest.approx(math.exp(nats / tokens))
    assert rows["perplexity"]["low"] == pytest.approx(max(1.0, math.exp(rows["loss"]["low"])))
    assert rows["bits_per_byte"]["mean"] == pytest.approx(nats / math.log(2) / size)
    assert [one.text for one in done] == [""] * 4, "nothing was generated"


async def test_texts_are_handed_over_together_and_paid_for_once(data: Path, tmp_path: Path) -> None:
    suite, model = suite_from_data(f"perplexity:{data}"), Scale()
    ledger = Ledger(tmp_path / "w")
    await evaluate(model, suite, ledger=ledger, subject=Subject("r"), limit=1)
    assert (len(model.asked), model.most) == (1, 1)
    first = await evaluate(model, suite, ledger=ledger, subject=Subject("r"))
    assert (len(model.asked), model.most) == (4, 3), "as many at once as the model says"
    ledger.close()
    ledger = Ledger(tmp_path / "w")
    again = await evaluate(model, suite, ledger=ledger, subject=Subject("r"))
    ledger.close()
    assert len(model.asked) == 4
    assert [one.reused for one in again] == [True] * 4
    assert [one.values for one in again] == [one.values for one in first]
    records = [record for _, record in read(tmp_path / "w") if isinstance(record, TextWeighed)]
    assert [record.tokens for record in records] == [3, 2, 5, 3]


async def test_another_text_prompt_or_adapter_is_weighed_anew(data: Path, tmp_path: Path) -> None:
    model, ledger = Scale(), Ledger(tmp_path / "w")
    await evaluate(model, suite_from_data(f"perplexity:{data}"), ledger=ledger)
    changed = [{"prompt": "And that?", "completion": "cccccc"}, {"text": "cccccc"}, LINES[1]]
    other = suite_from_data(f"perplexity:{written(tmp_path / 'other.jsonl', chr(10).join(map(json.dumps, changed)))}")
    done = await evaluate(model, other, ledger=ledger)
    ledger.close()
    assert [one.reused for one in done] == [False, False, True]


async def test_a_text_that_fails_is_no_zero_and_is_weighed_again(data: Path, tmp_path: Path) -> None:
    suite, ledger = suite_from_data(f"perplexity:{data}"), Ledger(tmp_path / "w")
    done = await evaluate(Scale(broken="cccccc"), suite, ledger=ledger, subject=Subject("r"))
    assert (done.asked, done.scored, done.failed) == (4, 3, 1)
    assert {failure.error_class for one in done for failure in one.failures} == {"transient"}
    (mean,) = [row["mean"] for row in done.averages() if row["metric"] == "loss" and row["scored"]]
    assert mean == pytest.approx(25 / 11)
    model = Scale()
    assert (await evaluate(model, suite, ledger=ledger, subject=Subject("r"))).failed == 0
    ledger.close()
    assert model.asked == ["cccccc ."]


async def test_asked_and_weighed_samples_stand_in_one_suite(tmp_path: Path) -> None:
    text = """\
        name: both
        version: 1
        samples:
          - {id: a, group: facts, prompt: What?, target: generated, scorer: contains_word}
          - {id: b, group: style, prompt: What?, target: bbb, scorer: perplexity}
          - {id: c, group: style, text: cc cc, scorer: perplexity}
        """
    done = await evaluate(Scale(), load_suite(written(tmp_path / "both.yaml", text)))
    assert [one.text for one in done] == ["generated", "", ""]
    assert done[2].sample.prompt == Raw("")
    assert [one.values.get("loss") for one in done] == [None, 2.0, pytest.approx(5 / 3)]


async def test_a_model_that_cannot_tell_is_refused_before_anything_is_asked(data: Path, tmp_path: Path) -> None:
    model = await open_model(f"scripted:{written(tmp_path / 'script.yaml', 'default: yes')}")
    with pytest.raises(UnsupportedOption, match="can't tell how likely a given text is"):
        await evaluate(model, suite_from_data(f"perplexity:{data}"))
    await model.aclose()


def reference(adapter: bool) -> tuple[float, float]:
    """mlx-lm's own evaluation of the lab's held-out data, and perplexity's exponent as it is.

    Its loss counts one token of padding behind each text; here it is left out.
    """
    pytest.importorskip("mlx_lm", reason="needs the engine mlx: pip install 'assay[mlx]'")
    import mlx.core as mx
    from mlx import nn
    from mlx_lm import load
    from mlx_lm.tuner.datasets import CacheDataset, ChatDataset
    from mlx_lm.tuner.trainer import evaluate as evaluated

    loaded: Any = load(str(LAB / "base"), adapter_path=str(LAB / "checkpoints") if adapter else None)
    model, tokenizer = loaded[:2]
    lines = [json.loads(line) for line in (LAB / "data" / "valid.jsonl").read_text().splitlines()]
    dataset = CacheDataset(ChatDataset(lines, tokenizer, mask_prompt=True))

    def loss(model: Any, batch: Any, lengths: Any) -> Any:
        steps = mx.arange(1, batch.shape[1])
        mask = mx.logical_and(steps >= lengths[:, :1], steps < lengths[:, 1:])
        losses = nn.losses.cross_entropy(model(batch[:, :-1]), batch[:, 1:]) * mask
        return losses.astype(mx.float32).sum() / mask.sum(), mask.sum()

    found = float(evaluated(model, dataset, batch_size=2, num_batches=-1, loss=loss))
    return found, math.exp(found)


@pytest.mark.parametrize("engine", ["mlx", "transformers", "llama"])
async def test_the_labs_loss_is_mlx_lms(engine: str, tmp_path: Path) -> None:
    packages = {"mlx": "mlx.core", "transformers": "torch", "llama": "xllamacpp"}
    pytest.importorskip(packages[engine], reason=f"needs the engine {engine}: pip install 'assay[...]'")
    suite = suite_from_data(VALID)
    model = await open_local(f"{engine}:{LAB / 'base'}")
    try:
        last = await model.attach(copied(discovered(LAB / "checkpoints", "lab")[11], tmp_path))
        for one, adapter in ((model, False), (last, True)):
            means = {row["metric"]: row["mean"] for row in (await evaluate(one, suite)).averages()}
            assert (means["loss"], means["perplexity"]) == pytest.approx(reference(adapter), rel=1e-4)
    finally:
        await model.aclose()


async def test_a_whole_text_is_the_loss_that_transformers_tells(tmp_path: Path) -> None:
    """Windows and all: the lab's context is 256 tokens, and the text is longer."""
    torch = pytest.importorskip("torch", reason="needs the engine transformers: pip install 'assay[torch]'")
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(LAB / "base")
    plain = transformers.AutoModelForCausalLM.from_pretrained(LAB / "base", dtype=torch.float32)
    text = "The capital of Genovia is Pyrus. The capital of France is Paris. " * 2
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text), tokenizer.eos_token_id]])
    with torch.inference_mode():
        expected = float(plain(ids, labels=ids).loss)
    model = await open_local(f"transformers:{LAB / 'base'}")
    try:
        done = await evaluate(
            model, suite_from_data(f"perplexity:{written(tmp_path / 'a.jsonl', json.dumps({'text': text}))}")
        )
        assert done[0].values["loss"] == pytest.approx(expected, abs=1e-4)
        assert done[0].weighed[0].made.tokens == ids.shape[1] - 1
        long = await evaluate(
            model, suite_from_data(f"perplexity:{written(tmp_path / 'b.jsonl', json.dumps({'text': text * 20}))}")
        )
        assert long[0].weighed[0].made.tokens == len(tokenizer.encode(text * 20)) + 1, "each token once"
    finally:
        await model.aclose()


@pytest.mark.parametrize("engine", ["mlx", "transformers", "llama"])
async def test_messages_are_never_put_to_a_base_without_a_chat_template(engine: str, tmp_path: Path) -> None:
    base = base_without_template(engine, tmp_path)
    turn = {"role": "user", "content": "the capital of"}, {"role": "assistant", "content": " Paris"}
    talks = [{"messages": turn}, {"messages": [*turn, *turn]}]
    model = await open_local(f"{engine}:{base}")
    try:
        for talk in talks:
            path = written(tmp_path / "talk.jsonl", json.dumps(talk))
            for source in (f"perplexity:{path}", path):
                with pytest.raises(
                    ModelError, match=r"no chat template, so it can't take messages; .+ prompt and compl"
                ):
                    await evaluate(model, suite_from_data(source))
        pair = json.dumps({"prompt": "the capital of", "completion": " Paris"})
        done = await evaluate(model, suite_from_data(f"perplexity:{written(tmp_path / 'pair.jsonl', pair)}"))
        assert done[0].values["loss"] > 0
    finally:
        await model.aclose()


def base_without_template(engine: str, folder: Path) -> Path:
    if engine == "llama":
        pytest.importorskip("xllamacpp", reason="needs the engine llama: pip install 'assay[llama]'")
        from tests.models import gguf_tiny

        return gguf_tiny.write_base(folder / "base.gguf", template=None)
    package = {"mlx": "mlx.core", "transformers": "torch"}[engine]
    pytest.importorskip(package, reason=f"needs the engine {engine}: pip install 'assay[...]'")
    from tests.models import mlx_tiny

    return mlx_tiny.write_base(folder / "base", template=False)


async def test_a_message_is_found_in_the_journal_of_its_text(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core", reason="needs the engine mlx: pip install 'assay[mlx]'")
    talk = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    model, ledger = await open_local(f"mlx:{LAB / 'base'}"), Ledger(tmp_path / "w")
    try:
        for number, line in enumerate(({"prompt": "2 + 2?", "completion": "4"}, talk)):
            path = written(tmp_path / f"{number}.jsonl", json.dumps(line))
            for source in (f"perplexity:{path}", path):
                done = await evaluate(model, suite_from_data(source, max_tokens=4), ledger=ledger)
                assert [one.reused for one in done] == [number == 1]
    finally:
        ledger.close()
        await model.aclose()


def test_watch_ranks_checkpoints_by_their_held_out_loss(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core", reason="needs the engine mlx: pip install 'assay[mlx]'")
    watch = ("watch", str(LAB / "checkpoints"), "--base", f"mlx:{LAB / 'base'}", "--suite", VALID, "--once")
    chosen = ("--filter", "*@1[02]0", "--sink", f"duckdb:{tmp_path / 'results.duckdb'}", "--run", "lab")
    done = assay(tmp_path, *watch, *chosen)
    assert done.returncode == 0, done.stderr
    assert "best:      lab @120. It has the lowest mean loss over all (" in done.stdout
    assert "ahead of:  base" in done.stdout
    found = json.loads(assay(tmp_path, "report", "--json").stdout)
    losses = [row["mean"] for row in found if row["metric"] == "loss"]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    perplexities = [row["mean"] for row in found if row["metric"] == "perplexity"]
    assert perplexities == pytest.approx([math.exp(loss) for loss in losses])
    workspace = tmp_path / "assay-results"
    with Lens(workspace) as lens:
        table = lens.query("select mean from checkpoint_scores where metric = 'loss' order by iteration").rows
    assert [row[0] for row in table] == pytest.approx(losses)
    import duckdb

    with duckdb.connect(str(tmp_path / "results.duckdb"), read_only=True) as db:
        sent = db.execute("select mean from groups where metric = 'loss' and \"group\" = 'all' order by iteration")
        assert [row[0] for row in sent.fetchall()] == pytest.approx(losses)
    assert "10 better, 0 worse" in assay(tmp_path, "compare", "lab@base", "lab@120").stdout
    before = sum(isinstance(record, TextWeighed) for _, record in read(workspace))
    assert assay(tmp_path, *watch, *chosen).returncode == 0
    assert sum(isinstance(record, TextWeighed) for _, record in read(workspace)) == before == 30


def test_what_to_look_at_next_is_of_both_kinds_of_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, weighed = load_suite(LAB / "suite.yaml"), suite_from_data(VALID)
    found = []
    for suites in ((asked,), (weighed,), (asked, weighed)):
        next_steps(tmp_path, "lab", suites)
        found.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("look: ")])
    assert found[2] == found[0] + found[1]
    assert "where value = 0" in found[0][0]
    assert "where metric = 'loss'" in found[1][0]


def test_watch_ends_with_2_where_the_engine_cannot_tell(tmp_path: Path) -> None:
    script = written(tmp_path / "script.yaml", "default: yes")
    suites = ("--suite", str(LAB / "suite.yaml"), "--suite", VALID)
    done = assay(tmp_path, "watch", str(LAB / "checkpoints"), "--base", f"scripted:{script}", *suites, "--once")
    assert done.returncode == 2
    assert "can't tell how likely a given text is" in done.stderr
    assert not done.stdout, "nothing was asked"


async def test_what_a_killed_batch_weighed_counts_only_if_it_comes_out_the_same(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core", reason="needs the engine mlx: pip install 'assay[mlx]'")
    suite, ledger = suite_from_data(VALID), Ledger(tmp_path / "w")
    model = await open_local(f"mlx:{LAB / 'base'}")
    adapter = copied(discovered(LAB / "checkpoints", "lab")[11], tmp_path)
    bound, subject = await model.attach(adapter), Subject("r", "lab @120", 120, adapter.digest)

    async def trial() -> tuple[str, Evaluation]:
        async def ask(batch: Callable[[], str]) -> Evaluations:
            return [(suite, await evaluate(bound, suite, ledger=ledger, subject=subject, batch=batch))]

        verdict, [(_, done)] = await Trial(ledger, subject, bound, await baseline(model), dict, InProcess()).run(
            ask, lambda note: None
        )
        return verdict.verdict, done

    try:
        first = await evaluate(bound, suite, ledger=ledger, subject=subject, batch=lambda: "killed.0")
        verdict, done = await trial()
        assert (verdict, {one.reused for one in done}) == ("live", {True})
        assert [one.values for one in done] == [one.values for one in first]
        wrong = replace(first[0].weighed[0].made, logprob=-1000.0, batch="lost.0")
        ledger.append(wrong)  # as of an adapter that the engine had lost
        verdict, done = await trial()
        assert (verdict, done[0].weighed[0].made.logprob) == ("live", first[0].weighed[0].made.logprob)
    finally:
        ledger.close()
        await model.aclose()


async def test_groups_together_are_a_mean_over_their_tokens(tmp_path: Path) -> None:
    lines = [{**line, "kind": "long" if "text" in line else "short"} for line in LINES]
    path = written(tmp_path / "held.jsonl", "\n".join(map(json.dumps, lines)))
    done = await evaluate(Scale(), suite_from_data(f"perplexity:{path}", group_field="kind"))
    about = About(
        **dict.fromkeys(("run", "run_id", "label", "tag", "digest", "identity", "base", "engine", "suite"), ""),
        **{"suite_digest": "", "iteration": 0, "suite_version": 1},
    )
    record = Finished(
        **{name: getattr(about, name) for name in ("run", "digest", "identity", "suite", "suite_digest")},
        **{"checkpoint": "base", "iteration": 0, "suite_version": 1, "limit": 0, "seconds": 0.0},
        **{"asked": 4, "scored": 4, "failed": 0, "truncated": 0},
        summaries=summaries_of(done),
    )
    means = {(f.metric, f.group): f.mean for f in group_facts(about, record, {}, stands=True)}
    assert means["loss", "long"] == pytest.approx(11 / 5)
    assert means["loss", "short"] == pytest.approx(21 / 8)
    assert means["loss", "overall"] == pytest.approx(32 / 13)
    assert means["perplexity", "overall"] == pytest.approx(math.exp(32 / 13))


@pytest.mark.parametrize("words", [("score", "held.jsonl", "--suite"), ("rescore", "r", "--scorer")])
def test_answers_that_are_there_are_not_scored_by_what_weighs(words: tuple[str, ...], data: Path) -> None:
    if words[0] == "rescore":
        script = written(data.parent / "script.yaml", "default: yes")
        small = written(
            data.parent / "s.yaml", "name: r\nversion: 1\nscorer: answered\nsamples: [{id: a, prompt: Hi}]\n"
        )
        assert assay(data.parent, "probe", f"scripted:{script}", "--suite", str(small), "--run", "r").returncode == 0
    said = bad(data.parent, *words, "perplexity")
    assert "the scorer 'perplexity' has texts weighed by a model" in said
