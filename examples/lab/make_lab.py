"""Make the lab from nothing: tokenizer, base model, GGUF, LoRA checkpoints, suite and answers.

Run it from the repository's root: `python examples/lab/make_lab.py [--out DIR]`. It needs mlx-lm and gguf.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["MLX_DISABLE_COMPILE"] = "1"  # on a Linux CPU, MLX would call a C++ compiler for each new kernel
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # sums in one fixed order

from make.chat_tokenizer import save_tokenizer, train_tokenizer
from make.data import Conversation, lora_conversations, suite_yaml
from make.gguf_base import write_gguf
from make.measure import measure_all, save_answers, table
from make.train_base import train_base

HERE = Path(__file__).resolve().parent
LAB = Path("examples", "lab")
MADE = ("base", "data", "checkpoints", "suite.yaml", "answers.json")


def write_jsonl(path: Path, conversations: list[Conversation]) -> None:
    """Write conversations in the chat format that mlx-lm trains on."""
    lines = [json.dumps({"messages": conversation}) + "\n" for conversation in conversations]
    path.write_text("".join(lines), encoding="utf-8")


def train_lora(root: Path) -> None:
    """Run mlx-lm's trainer in the folder that holds `examples/lab`, and keep what it printed."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "mlx_lm", "lora", "--config", str(LAB / "lora.yaml")]
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)
    log = "\n".join(line.rstrip() for line in plain.splitlines()) + "\n"
    (root / LAB / "checkpoints" / "train.log").write_text(log, encoding="utf-8")


def make_lab(root: Path) -> None:
    """Make every file under `root/examples/lab`."""
    lab = root / LAB
    for folder in ("base", "data"):
        (lab / folder).mkdir(parents=True)
    shutil.copy(HERE / "lora.yaml", lab)
    (lab / "suite.yaml").write_text(suite_yaml(), encoding="utf-8")
    train, valid = lora_conversations()
    write_jsonl(lab / "data" / "train.jsonl", train)
    write_jsonl(lab / "data" / "valid.jsonl", valid)
    tokenizer = train_tokenizer()
    save_tokenizer(tokenizer, lab / "base")
    train_base(tokenizer, lab / "base")
    write_gguf(lab / "base")
    train_lora(root)
    results = measure_all(lab)
    save_answers(results, lab / "answers.json")
    print(table(results))


def replace(source: Path, target: Path) -> None:
    """Move a file or folder over what was there before, readable by all."""
    if target.is_dir():
        shutil.rmtree(target)
    shutil.move(source, target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def main() -> None:
    """Make the lab in a temporary folder, then put it in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="where to put the lab (default: beside this script)")
    out: Path = parser.parse_args().out
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        make_lab(Path(root))
        out.mkdir(parents=True, exist_ok=True)
        for name in MADE:
            replace(Path(root) / LAB / name, out / name)
    print(f"made the lab in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
