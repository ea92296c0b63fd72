"""Tasks of lm-evaluation-harness as suites: they come to the numbers that it has itself, by its own `hf` model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'assay[lm-eval]'")
torch = pytest.importorskip("torch", reason="needs the torch extra: pip install 'assay[torch]'")
pytest.importorskip("peft", reason="needs the torch extra: pip install 'assay[torch]'")

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from assay.adapters.convert import convert  # noqa: E402
from assay.adapters.named import adapter_at  # noqa: E402
from assay.adapters.sources import source_at  # noqa: E402
from assay.api.evaluate import evaluate  # noqa: E402
from assay.errors import SuiteError  # noqa: E402
from assay.evaluation import Subject  # noqa: E402
from assay.evaluation import evaluate as weigh  # noqa: E402
from assay.models.open import open_local  # noqa: E402
from assay.proof import baseline  # noqa: E402
from assay.results.index import Ledger  # noqa: E402
from assay.suites.lm_eval_tasks import suite_from_task  # noqa: E402
from assay.trial import Evaluations, InProcess, Trial  # noqa: E402
from tests.harness.made_tasks import NAMES, write_task  # noqa: E402
from tests.models import mlx_tiny as tiny  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.mark.parametrize(("begins", "chat"), [(False, False), (True, False), (False, True)])
async def test_a_task_comes_to_the_harness_own_numbers(tmp_path: Path, tasks: Path, begins: bool, chat: bool) -> None:
    base = tiny.write_base(tmp_path / "base", add_bos=begins, max_position_embeddings=160)
    adapter = tiny.write_adapter(tmp_path / "adapter", seed=3)
    peft = convert(source_at(adapter), tmp_path / "peft", "peft", None).path
    torch.set_num_threads(1)
    theirs = HFLM(str(base), dtype="float32", device="cpu", batch_size=4, peft=str(peft))
    names = [name for name in NAMES if not (chat and name == "prose")]
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    results = simple_evaluate(
        theirs,
        tasks=names,
        task_manager=manager,
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    assert results is not None
    wanted = {
        (task, key.removesuffix(",none").replace(",", ":")): value
        for task, numbers in results["results"].items()
        for key, value in numbers.items()
        if "," in key and "_stderr" not in key
    }
    ledger = Ledger(tmp_path / "results")
    model = await open_local(f"transformers:{base}")
    try:
        found: dict[tuple[str, str], float] = {}
        for name in names:
            suite = suite_from_task(f"lm-eval{'-chat' if chat else ''}:{tasks / name}.yaml")
            first = await evaluate(model, suite, adapter=adapter, ledger=ledger)
            again = await evaluate(model, suite, adapter=adapter, ledger=ledger)
            assert first.proof == "live"
            assert all(each.reused for each in again)
            assert again.averages() == first.averages()
            found |= {(row["group"], row["metric"]): row["mean"] for row in first.averages()}
    finally:
        await model.aclose()
        ledger.close()
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted, rel=1e-4)


async def test_prompts_that_are_too_long_are_cut_as_the_harness_does(tmp_path: Path) -> None:
    base = tiny.write_base(tmp_path / "base", max_position_embeddings=96)
    documents = [{"q": "three and four is seven and " * count} for count in (1, 5, 12)]
    task = write_task(
        tmp_path,
        "long",
        documents,
        output_type="generate_until",
        doc_to_text="{{q}}",
        doc_to_target="x",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 30},
        metric_list=[{"metric": "exact_match"}],
    )
    torch.set_num_threads(1)
    theirs = HFLM(str(base), dtype="float32", device="cpu", batch_size=1)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    results = simple_evaluate(theirs, tasks=["long"], task_manager=manager, bootstrap_iters=0, log_samples=True)
    assert results is not None
    model = await open_local(f"transformers:{base}")
    try:
        done = await evaluate(model, suite_from_task(f"lm-eval:{task}"))
    finally:
        await model.aclose()
    wanted = {str(each["doc_id"]): each["resps"][0][0] for each in results["samples"]["long"]}
    assert {one.sample.id: one.text for one in done} == wanted
    assert len(set(wanted.values())) == 3


async def test_what_a_killed_batch_weighed_behind_a_template_comes_out_the_same(tmp_path: Path, tasks: Path) -> None:
    base, adapter = tiny.write_base(tmp_path / "base"), tiny.write_adapter(tmp_path / "adapter", seed=3)
    suite = suite_from_task(f"lm-eval-chat:{tasks / 'pick'}.yaml")
    ledger, model = Ledger(tmp_path / "results"), await open_local(f"transformers:{base}")
    try:
        bound = await model.attach(adapter_at(adapter))
        subject = Subject("r", "c", 1, bound.info.adapter or "")
        first = await weigh(bound, suite, ledger=ledger, subject=subject, batch=lambda: "killed.0")

        async def ask(batch: Callable[[], str]) -> Evaluations:
            return [(suite, await weigh(bound, suite, ledger=ledger, subject=subject, batch=batch))]

        trial = Trial(ledger, subject, bound, await baseline(model), dict, InProcess())
        verdict, [(_, done)] = await trial.run(ask, lambda note: None)
    finally:
        await model.aclose()
        ledger.close()
    assert (verdict.verdict, {one.reused for one in done}) == ("live", {True})
    assert [one.values for one in done] == [one.values for one in first]


def docs() -> list[dict[str, Any]]:
    return [{"q": "a", "a": "b"}, {"q": "c", "a": "d"}]


def test_metrics_that_are_no_mean_are_left_out_by_name(tasks: Path, tmp_path: Path) -> None:
    say: dict[str, Any] = {"output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}"}
    both = write_task(tmp_path, "both", docs(), **say, metric_list=[{"metric": "bleu"}, {"metric": "exact_match"}])
    notes: list[str] = []
    suite = suite_from_task(f"lm-eval:{both}", notes.append)
    assert suite.name == "both"
    assert notes == [
        "left out: bleu of the task both: put together otherwise than by the harness's mean or perplexity, and so no score of "
        "each document, which is what is compared"
    ]
    alone = write_task(tmp_path, "alone", docs(), **say, metric_list=[{"metric": "bleu"}])
    with pytest.raises(SuiteError, match=r"bleu of the task alone: put together .* the task has no other metric"):
        suite_from_task(f"lm-eval:{alone}")


def test_what_cannot_be_asked_is_said(tmp_path: Path, tasks: Path) -> None:
    say: dict[str, Any] = {
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "exact_match"}],
    }
    for more, why in (
        ({"generation_kwargs": {"num_beams": 4}}, "the task bad: the generation keyword 'num_beams'"),
        ({"repeats": 3}, "asks each document 3 times"),
        ({"dataset_kwargs": {"data_files": {"test": str(tmp_path / "none.jsonl")}}}, "can't load the task"),
    ):
        place = write_task(tmp_path, "bad", docs(), **{**say, **more})
        with pytest.raises(SuiteError, match=why):
            suite_from_task(f"lm-eval:{place}")
    with pytest.raises(SuiteError, match="there is no such file"):
        suite_from_task(f"lm-eval:{tmp_path / 'no.yaml'}")


def write_class(folder: Path, name: str, requests: str) -> Path:
    """A task whose class asks a document for these (kind, arguments), and takes what comes for the numbers `one` and `two`."""
    (folder / f"{name}_own.py").write_text(
        f"""
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask


class Own(ConfigurableTask):
    VERSION = 1

    def __init__(self, config=None):
        super().__init__(config={{name: value for name, value in config.items() if name != "class"}})

    def construct_requests(self, doc, ctx, apply_chat_template=False, chat_template=None, **more):
        asked = {requests}
        return [Instance(kind, doc, arguments, at, **more) for at, (kind, arguments) in enumerate(asked)]

    def process_results(self, doc, results):
        return {{"one": results[0][0], "two": results[1]}}

    def aggregation(self):
        return {{"one": mean, "two": mean}}

    def higher_is_better(self):
        return {{"one": True, "two": True}}
"""
    )
    place = write_task(folder, name, docs(), output_type="loglikelihood", doc_to_text="{{q}}", doc_to_target="{{a}}")
    place.write_text(place.read_text() + f"class: !function {name}_own.Own\n")
    return place


@pytest.mark.parametrize(
    ("requests", "why"),
    [
        ('[("generate_until", (ctx, {"until": [doc["a"]]}))]', "each document's answer in a way of its own"),
        ('[("generate_until", (ctx + end, {})) for end in "xy"]', "asks a document for several answers"),
        ('[("generate_until", (ctx, {})), ("loglikelihood", (ctx, " no"))]', "generates and weighs"),
        (
            '[("loglikelihood", (ctx, " no")) if doc["q"] == "a" else ("generate_until", (ctx, {}))]',
            "generates and weighs",
        ),
    ],
    ids=["two ways", "two answers", "both", "one or the other"],
)
def test_a_class_that_asks_otherwise_is_refused(requests: str, why: str, tmp_path: Path, tasks: Path) -> None:
    with pytest.raises(SuiteError, match=why):
        suite_from_task(f"lm-eval:{write_class(tmp_path, 'own', requests)}")


async def test_a_class_weighs_texts_with_and_without_context(tmp_path: Path, tasks: Path) -> None:
    asked = '[("loglikelihood", (ctx, " the sum")), ("loglikelihood_rolling", (doc["q"] + " is Paris",))]'
    place = write_class(tmp_path, "own", asked)
    base = tiny.write_base(tmp_path / "base")
    torch.set_num_threads(1)
    theirs = HFLM(str(base), dtype="float32", device="cpu", batch_size=1)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    results = simple_evaluate(theirs, tasks=["own"], task_manager=manager, bootstrap_iters=0)
    assert results is not None
    found = await evaluate(f"transformers:{base}", suite_from_task(f"lm-eval:{place}"))
    wanted = {metric: results["results"]["own"][f"{metric},none"] for metric in ("one", "two")}
    assert {row["metric"]: row["mean"] for row in found.averages()} == pytest.approx(wanted, rel=1e-4)


async def test_a_metric_without_a_number_takes_no_other_with_it(tmp_path: Path, tasks: Path) -> None:
    """Here `two` is a pair; the harness itself ends with a TypeError."""
    place = write_class(tmp_path, "own", '[("loglikelihood", (ctx, " the")), ("loglikelihood", (ctx, " sum"))]')
    base = tiny.write_base(tmp_path / "base")
    done = await evaluate(f"transformers:{base}", suite_from_task(f"lm-eval:{place}"))
    assert [set(one.values) for one in done] == [{"one"}, {"one"}]
    assert all("the task gives no number for it: (" in str(one.failures) for one in done)


def test_a_document_that_changed_is_another_question(tmp_path: Path, tasks: Path) -> None:
    say: dict[str, Any] = {"output_type": "loglikelihood", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}"}
    place = write_task(tmp_path, "told", docs(), **say, metric_list=[{"metric": "acc"}])
    first = suite_from_task(f"lm-eval:{place}")
    assert suite_from_task(f"lm-eval:{place}").digest == first.digest
    (tmp_path / "told.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in [docs()[0], {"q": "c", "a": "e"}]))
    changed = suite_from_task(f"lm-eval:{place}")
    assert changed.samples[0] == first.samples[0]
    assert changed.digest != first.digest


async def test_a_name_of_several_tasks_is_one_suite(tmp_path: Path, tasks: Path) -> None:
    for name in ("first", "second"):
        write_task(
            tmp_path,
            name,
            docs(),
            output_type="multiple_choice",
            doc_to_text="{{q}}",
            doc_to_choice=["b", "d"],
            doc_to_target="a",
            metric_list=[{"metric": metric} for metric in ("acc_mutual_info", "acc")],
        )
    both = tmp_path / "both.yaml"
    both.write_text("group: both\ntask: [first, second]\n")
    suite = suite_from_task(f"lm-eval:{both}")
    assert suite.name == "both"
    assert suite.groups == ("first", "second")
    base = tiny.write_base(tmp_path / "base")
    found = await evaluate(f"transformers:{base}", suite)
    assert {(row["group"], row["metric"]) for row in found.averages()} == {
        (group, metric) for group in suite.groups for metric in ("acc_mutual_info", "acc")
    }
    assert found.scored == 4
