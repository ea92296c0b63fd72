"""One `assay watch` against one lm-evaluation-harness process for each checkpoint, on the same thirty prompts.

Measured: `assay watch` over the lab (the base and twelve checkpoints), from the start of the command to its exit, table
included; the median of several, run in turn with lm-eval so that a busy machine slows both.

Against: lm-evaluation-harness (`--model hf`, torch in float32 on the CPU, `generate_until`, greedy, at most 24 tokens, the
chat template applied), run once for each of the thirteen, as one does who evaluates checkpoints with it: a process each,
from start to exit. By default the base and two checkpoints are run and 13 times their mean is taken; `--all` runs all.
lm-eval is given every advantage that costs nothing: one uncounted run first, which fills the caches; no network; the
thirty prompts in one batch; one torch thread (more are slower on a model this small; see --threads); no bootstrap.

Also checked: that the texts which lm-eval's model generates are those that assay journaled.

The adapters are converted from MLX's format to PEFT's here. lm-eval lives in an environment of its own:

    python3 -m venv lm-eval
    lm-eval/bin/pip install torch==2.13.0         # on Linux a CPU wheel is enough
    lm-eval/bin/pip install lm-eval==0.4.13 peft==0.21.2 transformers==5.23.0 accelerate
    python bench/against_lm_eval.py --lm-eval-python lm-eval/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

import lab
from assay.suites.suite import load_suite

_TASK = """\
task: assay_lab
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{target}}}}"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: {tokens}}}
metric_list: [{{metric: exact_match}}]
"""


@dataclass(frozen=True)
class Harness:
    """An installed lm-eval, and the folder that its task and its results are in."""

    python: Path
    folder: Path
    batch: int
    threads: int

    def run(self, adapter: Path | None) -> tuple[float, dict[str, str]]:
        """Evaluate the base, or an adapter on it: seconds from start to exit, and sample id -> answer."""
        out = Path(tempfile.mkdtemp(dir=self.folder))
        model = f"pretrained={lab.BASE},dtype=float32" + (f",peft={adapter}" if adapter else "")
        command = [str(self.python), "-m", "lm_eval", "--model", "hf", "--model_args", model, "--device", "cpu"]
        command += ["--tasks", "assay_lab", "--include_path", str(self.folder), "--apply_chat_template"]
        command += ["--batch_size", str(self.batch), "--output_path", str(out), "--log_samples"]
        quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        threads = {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}
        environment = {**os.environ, **quiet, **threads, "HF_HOME": str(self.folder / "hf")}
        started = time.perf_counter()
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            lab.fail(f"lm-eval ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        (samples,) = out.rglob("samples_*.jsonl")
        return seconds, {
            row["doc"]["id"]: row["resps"][0][0] for row in map(json.loads, samples.read_text("utf-8").splitlines())
        }


def make_task(folder: Path) -> None:
    """The lab's suite as an lm-eval task."""
    suite = load_suite(lab.SUITE)
    rows = [{"id": s.id, "prompt": s.prompt, "target": str(s.reference["target"])} for s in suite.samples]
    data = folder / "lab.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = _TASK.format(data=json.dumps(str(data)), tokens=suite.options.max_tokens)
    (folder / "assay_lab.yaml").write_text(task, encoding="utf-8")


def to_peft(weights: Path, folder: Path) -> Path:
    """An mlx-lm adapter in PEFT's format: both matrices transposed, `lora_alpha` = scale times rank."""
    config = json.loads((weights.parent / "adapter_config.json").read_text("utf-8"))["lora_parameters"]
    tensors: dict[str, Any] = {}
    modules: set[str] = set()
    for name, array in load_file(weights).items():
        module, _, leaf = name.rpartition(".")
        modules.add(module)
        peft = {"lora_a": "lora_A", "lora_b": "lora_B"}[leaf]
        tensors[f"base_model.model.{module}.{peft}.weight"] = np.ascontiguousarray(array.T)
    target = folder / weights.stem
    target.mkdir()
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    peft_config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(lab.BASE),
        "r": config["rank"],
        "lora_alpha": config["scale"] * config["rank"],
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted(modules),
    }
    (target / "adapter_config.json").write_text(json.dumps(peft_config), encoding="utf-8")
    return target


def chosen(everything: bool) -> list[Path | None]:
    """What lm-eval evaluates: the base (None), and all checkpoints or one early and one late."""
    files = sorted(lab.CHECKPOINTS.glob("[0-9]*_adapters.safetensors"))
    return [None, *(files if everything else (files[2], files[-1]))]


def agreement(theirs: dict[str, str], ours: dict[str, str]) -> int:
    """Answers that are the same text. lm-eval keeps the blanks around an answer, or not, depending on its version."""
    if theirs.keys() != ours.keys():
        lab.fail("lm-eval and assay were not asked the same samples")
    different = [sample for sample in ours if theirs[sample].strip() != ours[sample].strip()]
    for sample in different:
        print(f"  {sample}: lm-eval {theirs[sample]!r}, assay {ours[sample]!r}")
    return len(ours) - len(different)


def main() -> int:
    parser = argparse.ArgumentParser(description="One assay watch against lm-eval, once for each checkpoint.")
    parser.add_argument("--lm-eval-python", type=Path, required=True, help="the Python that lm-eval is installed for")
    parser.add_argument("--all", action="store_true", help="run lm-eval on all thirteen, not on three")
    parser.add_argument("--repeats", type=int, default=2, help="assay watches after each lm-eval [2]")
    parser.add_argument("--batch", type=int, default=30, help="lm-eval's batch size [30]")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads; 0 leaves them to torch [1]")
    parser.add_argument("--target", type=float, default=40, help="the smallest ratio that is fine [40]")
    arguments = parser.parse_args()
    python: Path = arguments.lm_eval_python
    if shutil.which(python) is None:
        lab.fail(f"there is no Python at {python}; this file's first lines say how to install lm-eval")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab.watch(folder / "warm", str(lab.BASE))
        make_task(folder)
        harness = Harness(python.absolute(), folder, arguments.batch, arguments.threads)
        harness.run(None)
        watches: list[lab.Watched] = []
        seconds: list[float] = []
        same = asked = 0
        for weights in chosen(arguments.all):
            took, answers = harness.run(None if weights is None else to_peft(weights, folder))
            seconds.append(took)
            watches += [lab.watch(folder / f"ws{len(watches) + n}", str(lab.BASE)) for n in range(arguments.repeats)]
            iteration = 0 if weights is None else int(weights.name.split("_")[0])
            agreed = agreement(answers, watches[0].answers(iteration))
            same, asked = same + agreed, asked + len(answers)
            who = "the base" if weights is None else f"checkpoint {iteration}"
            print(f"lm-eval on {who}: {took:.1f} s, {agreed} of {len(answers)} answers are assay's", flush=True)
    ours = statistics.median(watched.seconds for watched in watches)
    print(f"assay watch, {len(watches)} times: {lab.spread([watched.seconds for watched in watches], ' s')}")
    total = statistics.mean(seconds) * lab.SUBJECTS
    how = "all measured" if arguments.all else f"{lab.SUBJECTS} times the mean of {len(seconds)}"
    print(f"lm-eval, a process each: {total:.1f} s ({how})")
    print(f"the same greedy text: {same} of {asked}")
    code = lab.verdict("lm-eval / assay watch", total / ours, arguments.target, at_most=False)
    if same != asked:
        print("MISSED: the two do not generate the same texts, so one of them is wrong")
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
