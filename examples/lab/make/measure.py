"""Ask the base and every checkpoint the suite's questions with mlx-lm, greedily, and count what is right."""

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped, unused-ignore]
from mlx_lm import load, stream_generate

GROUPS = ("new facts", "old facts", "sums")


@dataclass(frozen=True)
class Measured:
    """One checkpoint's answers: sample id -> text, correct answers by group, and the closest call of any token."""

    checkpoint: str
    answers: dict[str, str]
    correct: dict[str, int]
    margin: float


def is_correct(sample: dict[str, Any], answer: str) -> bool:
    """Whether an answer is right: the last number for a sum, the whole word for a fact."""
    target = str(sample["target"])
    if sample.get("scorer") == "final_number":
        numbers = re.findall(r"-?\d+", answer)
        return bool(numbers) and numbers[-1] == target
    return re.search(rf"\b{re.escape(target)}\b", answer) is not None


def ask(model: Any, tokenizer: Any, prompt: str, max_tokens: int) -> tuple[str, float]:
    """The greedy answer, and the smallest gap between the best and the second-best logit on the way."""
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
    )
    text, margin = "", float("inf")
    for part in stream_generate(model, tokenizer, ids, max_tokens=max_tokens):
        text += part.text
        second, first = np.sort(np.asarray(part.logprobs))[-2:].tolist()
        margin = min(margin, first - second)
    return text, margin


def measure(name: str, base: Path, adapter: Path | None, suite: dict[str, Any]) -> Measured:
    """Load the base, with one checkpoint file or none, and ask everything."""
    with tempfile.TemporaryDirectory() as folder:
        if adapter is not None:
            shutil.copy(adapter, Path(folder, "adapters.safetensors"))
            shutil.copy(adapter.parent / "adapter_config.json", folder)
        model, tokenizer = load(str(base), adapter_path=None if adapter is None else folder)[:2]
    answers: dict[str, str] = {}
    correct = dict.fromkeys(GROUPS, 0)
    margin = float("inf")
    for sample in suite["samples"]:
        text, gap = ask(model, tokenizer, sample["prompt"], suite["options"]["max_tokens"])
        answers[sample["id"]] = text
        correct[sample["group"]] += is_correct(sample, text)
        margin = min(margin, gap)
    return Measured(name, answers, correct, margin)


def measure_all(lab: Path) -> list[Measured]:
    """The base and every numbered checkpoint, in order."""
    suite = yaml.safe_load((lab / "suite.yaml").read_text(encoding="utf-8"))
    results = [measure("base", lab / "base", None, suite)]
    for path in sorted((lab / "checkpoints").glob("0*_adapters.safetensors")):
        results.append(measure(str(int(path.name.split("_")[0])), lab / "base", path, suite))
    return results


def table(results: list[Measured]) -> str:
    """The counts as a Markdown table."""
    lines = ["| checkpoint | " + " | ".join(GROUPS) + " | closest call |", "| --- " * (len(GROUPS) + 2) + "|"]
    for one in results:
        counts = " | ".join(str(one.correct[group]) for group in GROUPS)
        lines.append(f"| {one.checkpoint} | {counts} | {one.margin:.3f} |")
    return "\n".join(lines)


def save_answers(results: list[Measured], path: Path) -> None:
    """Write every answer as JSON: checkpoint -> sample id -> text."""
    answers = {one.checkpoint: one.answers for one in results}
    path.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
