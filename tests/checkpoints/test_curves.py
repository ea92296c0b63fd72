"""Losses, from logs as the trainers write them."""

from __future__ import annotations

import json
from pathlib import Path

from assay.checkpoints.curves import Loss, losses_in_state, losses_in_text
from assay.job import Job
from assay.results.index import Ledger
from assay.results.journal import read
from assay.results.lens import Lens
from assay.results.records import LossSeen
from assay.watch import watch
from tests.conftest import LAB
from tests.making import adapter_file
from tests.test_watch import Listener, job, run

__all__ = ["job"]

MLX_LOG = """\
Loading pretrained model
Trainable parameters: 0.104% (1.364M/1311.000M)
Starting training..., iters: 30
Iter 1: Val loss 2.912, Val took 1.523s
Iter 10: Train loss 2.105, Learning Rate 1.000e-05, It/sec 0.526, Tokens/sec 201.2, Trained Tokens 3825, Peak mem 3.1 GB
Iter 10: Saved adapter weights to adapters/adapters.safetensors and adapters/0000010_adapters.safetensors.
2026-11-01 12:00:00 Iter 20: Train loss 1.5, Learning Rate 1.000e-05
Iter 20: Val loss nan, Val took 1.5s
Iter 30: Val loss 1.250, Val took 1.5s
Iter 30: Train los"""


def test_mlx_lms_lines() -> None:
    assert list(losses_in_text(MLX_LOG)) == [
        Loss(1, "val", 2.912),
        Loss(10, "train", 2.105),
        Loss(20, "train", 1.5),
        Loss(30, "val", 1.25),
    ]


def test_mlx_lms_table() -> None:
    table = (LAB / "checkpoints" / "train.log").read_text(encoding="utf-8")
    losses = list(losses_in_text(table))
    assert [loss for loss in losses if loss.part == "val"] == [
        Loss(iteration, "val", value) for iteration, value in ((1, 6.722), (40, 0.644), (80, 0.127), (120, 0.046))
    ]
    train = [loss for loss in losses if loss.part == "train"]
    assert [loss.iteration for loss in train] == list(range(10, 130, 10))
    assert (train[0].value, train[-1].value) == (4.658, 0.053)
    assert list(losses_in_text(table.replace("\n", "\r\n"))) == losses, "as a terminal's log has it"
    coloured = (
        "\x1b[1;34m  10\x1b[0m    \x1b[1;32m12.658 ▲\x1b[0m    \x1b[1m1,232\x1b[0m      0.5k\n"
        " 2    val 1.000    0.25s\nx 3    1.000"
    )
    assert list(losses_in_text(coloured)) == [Loss(10, "train", 12.658), Loss(2, "val", 1.0)]


def test_transformers_state() -> None:
    history = [
        {"epoch": 0.5, "loss": 1.75, "learning_rate": 1e-5, "step": 50},
        {"epoch": 1.0, "eval_loss": 1.5, "eval_runtime": 3.2, "step": 100},
        {"train_loss": 1.6, "train_runtime": 12.0, "step": 100},
        {"loss": float("nan"), "step": 110},
        {"loss": 1.0},
        "no entry",
    ]
    text = json.dumps({"global_step": 100, "log_history": history})
    assert list(losses_in_state(text)) == [Loss(50, "train", 1.75), Loss(100, "val", 1.5)]
    for broken in ("", "{", "[]", '{"log_history": 7}', text[:-5]):
        assert list(losses_in_state(broken)) == []


async def test_losses_are_journaled_once_and_share_an_axis_with_the_scores(job: Job) -> None:
    (Path(job.folder) / "train.log").write_text(MLX_LOG)
    await run(job)
    await run(job)
    losses = [r for _, r in read(job.workspace) if isinstance(r, LossSeen)]
    assert len(losses) == 4
    with Lens(job.workspace) as lens:
        rows = lens.query("select iteration, train_loss, val_loss from curves where \"group\" = 'new'").rows
    assert rows == ((0, None, None), (10, 2.105, 2.912), (20, 1.5, 2.912), (30, 1.5, 1.25))
    (Path(job.folder) / "train.log").write_text(MLX_LOG.replace("Train loss 1.5,", "Train loss 1.6,"))
    adapter_file(Path(job.folder) / "0000040_adapters.safetensors", 40)
    ledger = Ledger(job.workspace)
    await watch(job, ledger, Listener())
    ledger.close()
    with Lens(job.workspace) as lens:
        assert lens.query("select value from losses where iteration = 20").rows == ((1.6,),)
