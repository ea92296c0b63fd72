"""Tasks of lm-evaluation-harness, of each kind, with their data beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

NAMES = ("pick", "last_word", "prose", "say")
_ASKED = (
    "the capital of France",
    "three and four",
    "the sum of three",
    "seven and the capital",
    "Paris and the",
    "four",
)
_WORDS = ("Paris", "seven", "four", "France", "three", "capital")
_TEXTS = (
    "the capital of France is Paris",
    "three and four is seven and " * 40,
    "<|bos|>the sum",
    "  is Paris and é 日本 ",
)


def write_tasks(folder: Path) -> Path:
    """Four tasks: a choice, a last word, texts to weigh, and answers to generate."""
    folder.mkdir(parents=True)
    write_task(
        folder,
        "pick",
        [
            {"q": q, "choices": [f"is {w}" for w in _WORDS[at % 3 : at % 3 + 4]], "a": at % 4}
            for at, q in enumerate(_ASKED)
        ],
        output_type="multiple_choice",
        doc_to_text="Question: {{q}}\nAnswer:",
        doc_to_choice="choices",
        doc_to_target="a",
        num_fewshot=2,
        metric_list=[_mean("acc"), _mean("acc_norm")],
    )
    write_task(
        folder,
        "last_word",
        [{"q": q, "a": w} for q, w in zip(_ASKED, _WORDS, strict=True)],
        output_type="loglikelihood",
        doc_to_text="{{q}} is",
        doc_to_target="{{' ' + a}}",
        metric_list=[_mean("acc"), {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}],
    )
    losses = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    write_task(
        folder,
        "prose",
        [{"text": text} for text in _TEXTS],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": metric} for metric in losses],
    )
    write_task(
        folder,
        "say",
        [{"q": q, "a": w} for q, w in zip(_ASKED, _WORDS, strict=True)],
        output_type="generate_until",
        doc_to_text="{{q}} is ",
        doc_to_target="{{a}}",
        generation_kwargs={"until": ["\n", "e"], "max_gen_toks": 12},
        filter_list=[
            {"name": "first", "filter": [{"function": "regex", "regex_pattern": r"(\w)"}, {"function": "take_first"}]},
            {"name": "all", "filter": [{"function": "take_first"}]},
        ],
        metric_list=[{**_mean("exact_match"), "ignore_case": True, "ignore_punctuation": True}],
    )
    return folder


def write_task(folder: Path, name: str, docs: Iterable[Mapping[str, object]], **config: object) -> Path:
    """One task: a YAML file, and its documents in a file beside it."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    written = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "fewshot_split": "test",
        **config,
        "metadata": {"version": 1.0},
    }
    place = folder / f"{name}.yaml"
    place.write_text(yaml.safe_dump(written, sort_keys=False))
    return place


def _mean(metric: str) -> dict[str, object]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}
