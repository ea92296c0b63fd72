"""API calls a second, from the start of the process to its exit: `assay score` against lm-eval and inspect_ai.

2,000 different prompts, 64 at once, the same server (`judge_server.py`), which answers at once, and then again after 50 ms each
(where the ideal alone takes 1.56 s, whoever asks). assay goes first: it
judges 2,000 answers, and the messages of its requests are what the others are given, word for word, as a task that asks for
up to 2,048 tokens of text and compares the reply with a target. That each of the 2,000 came once, and that the same
number of characters was asked, is checked on the server's side.

- lm-evaluation-harness 0.4.13: `local-chat-completions`, `num_concurrent=64`, `generate_until`, samples logged, no bootstrap.
  It takes a single user message a prompt, so the system message, which is the same for all, is its `--system_instruction`.
- inspect_ai: `eval` with `max_connections` and `max_samples` 64, no display, its log written.

Both get an uncounted run first, which fills their caches, and no network. Targets, where the server answers at once: 10 and
20 times as many calls a second. After 50 ms each, the ratios are only told.

    python3 -m venv lm-eval && lm-eval/bin/pip install "lm-eval[api]==0.4.13"
    python3 -m venv inspect && inspect/bin/pip install inspect-ai openai
    python bench/api_calls_against.py --lm-eval-python lm-eval/bin/python --inspect-python inspect/bin/python
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lab
from judge_server import JudgeServer
from score_command import ENVIRONMENT, run, score, write_answers, write_settings

LATENCIES = (0.0, 0.05)  # seconds; the targets are for the first
MAX_TOKENS = 2048
LM_EVAL, INSPECT = "lm-eval", "inspect_ai"

_LM_TASK = """\
task: assay_prompts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{target}}}}"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: {tokens}}}
metric_list: [{{metric: exact_match}}]
"""

_INSPECT_TASK = """\
import json, sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model
from inspect_ai.scorer import exact

url, data, logs, concurrency, tokens = sys.argv[1:]
rows = [json.loads(line) for line in open(data, encoding="utf-8")]
samples = [
    Sample(input=[ChatMessageSystem(content=r["system"]), ChatMessageUser(content=r["prompt"])], target=r["target"])
    for r in rows
]
config = GenerateConfig(max_connections=int(concurrency), max_tokens=int(tokens), temperature=0, seed=0)
model = get_model("openai-api/judge/judge", base_url=url, api_key="none", config=config)
done = eval(
    Task(dataset=samples, scorer=exact()),
    model=model, max_samples=int(concurrency), display="none", log_dir=logs, limit=len(rows),
)
sys.exit(done[0].status != "success")
"""


@dataclass(frozen=True)
class Tool:
    """A tool, and how it is started."""

    name: str
    command: list[str]
    target: float


@dataclass(frozen=True)
class Prompts:
    """What is asked: a task's data, the system message that all share, and the number of characters in all messages."""

    data: Path
    system: str
    characters: int


def write_prompts(folder: Path, bodies: list[dict[str, Any]]) -> Prompts:
    """The requests' messages as a task's data."""
    rows, systems = [], set()
    for body in bodies:
        system, user = body["messages"]
        systems.add(system["content"])
        rows.append({"system": system["content"], "prompt": user["content"], "target": "none"})
    (system_text,) = systems
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Prompts(path, system_text, sum(len(row["system"]) + len(row["prompt"]) for row in rows))


def lm_eval(python: Path, folder: Path, server: JudgeServer, prompts: Prompts, concurrency: int) -> Tool:
    task = _LM_TASK.format(data=json.dumps(str(prompts.data)), tokens=MAX_TOKENS)
    (folder / "assay_prompts.yaml").write_text(task, encoding="utf-8")
    model = f"model=judge,base_url={server.url}/v1/chat/completions,num_concurrent={concurrency},max_retries=3"
    command = [str(python), "-m", "lm_eval", "--model", "local-chat-completions", "--model_args", model]
    command += ["--tasks", "assay_prompts", "--include_path", str(folder), "--apply_chat_template"]
    command += ["--system_instruction", prompts.system, "--output_path", str(folder / "lm"), "--log_samples"]
    return Tool(LM_EVAL, command, 10)


def inspect(python: Path, folder: Path, server: JudgeServer, prompts: Prompts, concurrency: int) -> Tool:
    script = folder / "inspect_task.py"
    script.write_text(_INSPECT_TASK, encoding="utf-8")
    words = [f"{server.url}/v1", str(prompts.data), str(folder / "logs"), str(concurrency), str(MAX_TOKENS)]
    return Tool(INSPECT, [str(python), str(script), *words], 20)


def seconds(tool: Tool, folder: Path, server: JudgeServer, calls: int, characters: int) -> float:
    """Run the tool, check what it asked, and return its seconds."""
    server.clear()
    ran = run(tool.command, folder, HF_HOME=str(folder / "hf"), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    if ran.code != 0:
        lab.fail(f"{tool.name} ended with {ran.code}: {(ran.err or ran.out)[-2000:]}")
    seen = server.seen()
    asked = sum(len(message["content"]) for body in server.bodies() for message in body["messages"])
    if len(seen.calls) != calls or len(seen.answered) != calls or asked != characters:
        lab.fail(f"{tool.name} made {len(seen.calls)} calls with {asked} characters, not {calls} with {characters}")
    print(
        f"{tool.name}: {ran.seconds:.2f} s, {seen.seconds:.2f} s from the first request to the last reply", flush=True
    )
    return ran.seconds


def tools(arguments: argparse.Namespace, folder: Path, server: JudgeServer, prompts: Prompts) -> list[Tool]:
    """What is compared with."""
    found = []
    if arguments.lm_eval_python:
        found.append(lm_eval(arguments.lm_eval_python.absolute(), folder, server, prompts, arguments.concurrency))
    if arguments.inspect_python:
        found.append(inspect(arguments.inspect_python.absolute(), folder, server, prompts, arguments.concurrency))
    return found


def measure(arguments: argparse.Namespace, folder: Path) -> int:
    write_settings(folder, concurrency=arguments.concurrency)
    answers = write_answers(folder / "answers.jsonl", arguments.answers)
    code = 0
    prompts: Prompts | None = None
    for latency in LATENCIES:
        with JudgeServer(latency, keep=True) as server:
            ran = run(score(folder, answers, server.spec, f"warm-{latency}"), folder)
            if ran.code != 0:
                lab.fail(f"assay score ended with {ran.code}: {ran.err[-2000:]}")
            first = prompts is None
            prompts = prompts or write_prompts(folder, server.bodies())  # another file would have to be cached again
            code = max(code, compare(arguments, folder, server, answers, prompts, latency, uncounted=first))
    return code


def compare(
    arguments: argparse.Namespace,
    folder: Path,
    server: JudgeServer,
    answers: Path,
    prompts: Prompts,
    latency: float,
    *,
    uncounted: bool,
) -> int:
    """Run all in turn. uncounted: once before, to fill caches. 1 where a target is missed."""
    after = f"after {latency * 1000:.0f} ms"
    print(after, flush=True)
    chosen = tools(arguments, folder, server, prompts)
    if uncounted:
        for tool in chosen:
            seconds(tool, folder, server, arguments.answers, prompts.characters)
    ours: dict[str, list[float]] = {tool.name: [] for tool in chosen}
    theirs: dict[str, list[float]] = {tool.name: [] for tool in chosen}
    for number in range(arguments.rounds):
        for tool in chosen:
            own = Tool("assay score", score(folder, answers, server.spec, f"{tool.name}-{latency}-{number}"), 0)
            ours[tool.name].append(seconds(own, folder, server, arguments.answers, prompts.characters))
            theirs[tool.name].append(seconds(tool, folder, server, arguments.answers, prompts.characters))
    code = 0
    for tool in chosen:
        ratios = [their / our for their, our in zip(theirs[tool.name], ours[tool.name], strict=True)]
        print(f"{tool.name} {lab.spread(theirs[tool.name], ' s')}, assay score {lab.spread(ours[tool.name], ' s')}")
        what = f"calls a second, assay score / {tool.name}, {after}"
        if latency == LATENCIES[0]:
            code = max(code, lab.verdict(what, statistics.median(ratios), tool.target, at_most=False))
        else:
            print(f"{what}: {lab.spread(ratios)}")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description="API calls a second against lm-eval and inspect_ai.")
    parser.add_argument("--lm-eval-python", type=Path, help="the Python that lm-eval is installed for")
    parser.add_argument("--inspect-python", type=Path, help="the Python that inspect_ai is installed for")
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    for python, module in ((arguments.lm_eval_python, "lm_eval"), (arguments.inspect_python, "inspect_ai")):
        if python and subprocess.run([python, "-c", f"import {module}"], env=ENVIRONMENT, check=False).returncode != 0:
            lab.fail(f"{python} has no {module}; this file's first lines say how to install it")
    if not (arguments.lm_eval_python or arguments.inspect_python):
        lab.fail("name --lm-eval-python, --inspect-python or both; this file's first lines say how to install them")
    with tempfile.TemporaryDirectory() as name:
        return measure(arguments, Path(name))


if __name__ == "__main__":
    sys.exit(main())
