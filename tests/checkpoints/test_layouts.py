"""Folders as trainers leave them: nested runs, PEFT's layout, names of families, and what is never followed or read."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest

from assay.checkpoints.discover import Discovery, Found
from assay.checkpoints.naming import FAMILIES, Family, names_below, names_of
from assay.hosts.local import LocalHost
from assay.results.index import Ledger
from assay.results.records import LossSeen
from assay.sinks.feed import Feed
from assay.sinks.line_protocol import lines_of
from tests.adapters.test_peft import write
from tests.making import _outside, adapter_file, checkpoints, written


def look(folder: Path, run: str | None = None, known: Iterable[tuple[PurePosixPath, str]] = ()) -> Found:
    return _outside(Discovery(LocalHost(), PurePosixPath(folder), run, known=known).look())


@pytest.mark.parametrize(
    ("folder", "tag", "label", "run_id"),
    [
        ("adapters-27b", "gemma-3-27b", "G27 @0000100", "27b-capability-auto"),
        ("adapters-27b-reasoning", "gemma-3-27b", "G27-reasoning @0000100", "27b-reasoning-capability-auto"),
        ("adapters-vi-12b", "gemma-3-12b", "Vi12 @0000100", "vi-12b-capability-auto"),
        ("adapters-vi", "gemma-3-1b", "Vi1 @0000100", "vi-capability-auto"),
        ("adapters-15k/gemma-3-12b", "gemma-3-12b", "G12 @0000100", "15k-gemma-3-12b-capability-auto"),
        ("adapters-15k/gemma-3-1b-v2", "gemma-3-1b", "G1-v2 @0000100", "15k-gemma-3-1b-v2-capability-auto"),
        ("adapters-gpt-oss-lem", "gpt-oss-20b", "GPT-lem @0000100", "gpt-oss-lem-capability-auto"),
        ("adapters-27b/gemma-3-1b", "gemma-3-27b", "G27-gemma-3-1b @0000100", "27b-gemma-3-1b-capability-auto"),
        ("vision-qwen", "vision-qwen", "", "vision-qwen-capability-auto"),
        ("4bit-mistral/adapters", "4bit-mistral", "", "4bit-mistral-capability-auto"),
        ("adapters-lem-gpt-oss", "gpt-oss-20b", "LGPT @0000100", "lem-gpt-oss-capability-auto"),
        ("adapters-deepseek-r1-7b", "deepseek-r1-7b", "R1 @0000100", "deepseek-r1-7b-capability-auto"),
        (
            "adapters-something-of-my-own",
            "something-of-my-own",
            "something- @0000100",
            "something-of-my-own-capability-auto",
        ),
        ("lab/checkpoints", "lab", "", "lab-capability-auto"),
    ],
)
def test_go_mls_names(folder: str, tag: str, label: str, run_id: str) -> None:
    names = names_of(PurePosixPath("/runs") / folder)
    assert (names.tag, names.label("0000100"), names.run_id) == (tag, label, run_id)


def test_a_users_families_come_before_the_known_ones() -> None:
    own = (Family("12b-math", "llama-3-8b", "Math"), *FAMILIES)
    assert names_of(PurePosixPath("/adapters-12b-math-2"), own).label("0000001") == "Math-2 @0000001"
    assert names_of(PurePosixPath("/adapters-12b"), own).tag == "gemma-3-12b"


def test_a_family_by_a_pattern() -> None:
    own = (
        Family("", "", "", r"saves/(?P<tag>[^/]+)/lora/(?P<run>[^/]+)"),
        Family("", "qwen", "Q", r"\w+-q(?P<label>\d)?"),
    )
    first = names_below(PurePosixPath("/saves"), PurePosixPath("/saves/Llama/lora/sft/checkpoints"), own)
    assert (first.run, first.tag, first.prefix, first.run_id) == ("sft", "Llama", "", "sft-capability-auto")
    second = names_below(PurePosixPath("/runs"), PurePosixPath("/runs/a/new-q"), own)
    assert (second.run, second.tag, second.label("7")) == ("a/new-q", "qwen", "Q @7")
    assert names_of(PurePosixPath("/runs/new-q5"), own).label("7") == "5 @7"
    assert names_of(PurePosixPath("/runs/adapters-12b"), (*own, *FAMILIES)).tag == "gemma-3-12b"


def test_every_run_below_the_folder_is_found_under_a_name_of_its_own(tmp_path: Path) -> None:
    checkpoints(tmp_path / "adapters-12b", (100,))
    checkpoints(tmp_path / "adapters-15k" / "gemma-3-1b", (200,))
    checkpoints(tmp_path / "a" / "checkpoints", (300,))
    checkpoints(tmp_path / "b" / "checkpoints", (300,))
    write(tmp_path / "sft" / "checkpoint-400")
    write(tmp_path / "sft")
    found = [c for c in look(tmp_path).checkpoints if c.numbered or c.layout == "peft"]
    assert sorted((c.run, c.label) for c in found) == [
        ("12b", "G12 @0000100"),
        ("15k-gemma-3-1b", "G1 @0000200"),
        ("a", "a @300"),
        ("b", "b @300"),
        ("sft", "sft @400"),
        ("sft", "sft @final"),
    ]


def test_a_run_four_levels_down_is_found_with_its_checkpoints(tmp_path: Path) -> None:
    run = tmp_path / "saves" / "Llama" / "lora" / "sft"
    write(run / "checkpoint-40")
    write(run)
    write(run / "deeper" / "checkpoint-50")
    assert [c.label.rpartition(" ")[2] for c in look(tmp_path).checkpoints] == ["@40", "@final"]


def test_a_name_does_not_depend_on_what_lies_beside(tmp_path: Path) -> None:
    runs = tmp_path / "all"
    wanted = ("Qwen/lora/sft", "Llama/lora/sft", "x/12b", "y/12b", "deep/12b-a")
    mine = ("Qwen/lora/sft", "Llama/lora/sft", "x/adapters-12b", "y/adapters-12b", "deep/adapters-12b/a")
    places = (
        "Qwen/lora/sft",
        "Llama/lora/sft/output",
        "x/adapters-12b",
        "y/adapters-12b/checkpoints",
        "deep/adapters-12b/a",
    )
    for count, place in enumerate(places, 1):
        checkpoints(runs / place, (10,))
        assert {c.run for c in look(runs).checkpoints} == set(wanted[:count])
        assert {c.run for c in look(runs, "mine").checkpoints} == {f"mine/{each}" for each in mine[:count]}
    checkpoints(runs / "x-12b", (10,))
    ids = {
        c.run: (c.label, c.run_id)
        for c in look(runs).checkpoints
        if c.run in ("x/12b", "y/12b", "x-12b") and c.numbered
    }
    assert ids == {
        "x/12b": ("G12 @0000010", "x/12b-capability-auto"),
        "y/12b": ("G12 @0000010", "y/12b-capability-auto"),
        "x-12b": ("x-12b @10", "x-12b-capability-auto"),
    }
    mine = {c.run_id for c in look(runs / "x", "mine").checkpoints}
    assert mine == {"mine/adapters-12b-capability-auto"}, "not that of the same folder without --run"


def known(top: Path, *runs: tuple[Path, str]) -> list[tuple[PurePosixPath, str]]:
    return [(PurePosixPath(path.relative_to(top)), run) for folder, run in runs for path in folder.iterdir()]


def test_a_run_keeps_the_name_that_it_has(tmp_path: Path) -> None:
    runs = tmp_path / "all"
    named = known(runs, (checkpoints(runs / "Qwen" / "sft", (10,)), "sft"))
    first = checkpoints(runs / "a" / "checkpoints", (10,))
    discovery = Discovery(LocalHost(), PurePosixPath(runs), known=named)
    assert {c.run for c in _outside(discovery.look()).checkpoints} == {"sft", "a"}
    checkpoints(runs / "a" / "output", (10,))
    assert {c.run for c in _outside(discovery.look()).checkpoints} == {"sft", "a", "all/a/output"}
    later = look(runs, known=known(runs, (first, "a"), (first, "mine/a")))
    assert {c.run for c in later.checkpoints} == {"Qwen/sft", "a", "all/a/output"}


def test_no_two_runs_share_a_name(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for place in ("adapters-12b", "12b", "runs/12b", "a\nb", "a\\nb", "checkpoint-7"):
        checkpoints(runs / place, (10,))
    wrote = write(runs / "peft" / "checkpoint-10")
    names = {c.weights.parent: c.run for c in look(runs).checkpoints}
    assert len(set(names.values())) == len(names) == 7
    assert names[PurePosixPath(runs / "runs" / "12b")] == "runs/12b", "nobody else's name is taken away"
    kept = known(runs, *((Path(folder), run) for folder, run in names.items()))
    assert {c.weights.parent: c.run for c in look(runs, known=kept).checkpoints} == names
    shutil.rmtree(runs / "adapters-12b")
    shutil.rmtree(runs / "12b")
    again = {c.weights.parent: c.run for c in look(runs, known=kept).checkpoints}
    assert again.items() <= names.items()
    wrote.rename(wrote.with_name("checkpoint-20"))
    assert "peft" in {c.run for c in look(runs, known=kept).checkpoints}, "a trainer deletes its old checkpoints"


def test_the_name_of_a_run_that_is_gone_is_not_given_away(tmp_path: Path) -> None:
    gone = checkpoints(tmp_path / "runs" / "adapters-12b", (10,))
    named = known(gone.parent, (gone, "12b"))
    shutil.rmtree(gone)
    checkpoints(gone.with_name("12b"), (10,))
    assert {c.run for c in look(gone.parent, known=named).checkpoints} == {"runs/12b"}


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_followed(tmp_path: Path) -> None:
    outside = adapter_file(tmp_path / "secret" / "adapters.safetensors", 1)
    folder = tmp_path / "runs" / "lab"
    checkpoints(folder, (10,))
    (folder / "0000020_adapters.safetensors").symlink_to(outside)
    (folder / "0000030_adapters.safetensors").symlink_to("0000010_adapters.safetensors")
    (tmp_path / "runs" / "away").symlink_to(tmp_path / "secret")
    (tmp_path / "runs" / "checkpoint-40").symlink_to(tmp_path / "secret")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    found = look(tmp_path / "runs")
    assert sorted(c.iteration for c in found.checkpoints if c.numbered) == [10, 30]
    assert [refused.checkpoint.label for refused in found.refused] == ["runs @40", "lab @20"]
    assert "/checkpoint-40: a link that leads out of" in found.refused[0].reason
    assert [text for text in found.unlisted if "/away, a link that leads out of" in text] == found.unlisted, (
        "said, no fault"
    )
    assert "0000020_adapters.safetensors: a link that leads out of" in found.refused[1].reason
    assert {c.run for c in look(tmp_path / "runs", "mine").checkpoints} == {"mine/lab"}, (
        "what is refused renames nobody"
    )


def test_a_curve_has_its_runs_names_before_the_run_begins(tmp_path: Path) -> None:
    written(checkpoints(tmp_path / "adapters-12b", (100,)) / "train.log", "Iter 1: Val loss 2.9, Val took 1.5s")
    [log] = look(tmp_path).logs
    assert (log.run, log.tag, log.run_id) == ("12b", "gemma-3-12b", "12b-capability-auto")
    ledger = Ledger(tmp_path / "results")
    record = LossSeen(run=log.run, iteration=1, part="val", value=2.9, tag=log.tag, run_id=log.run_id)
    ledger.append(record)
    ledger.close()
    [fact] = Feed(tmp_path / "results", {}).next(10).facts
    assert lines_of(fact)[0].startswith("training_loss,loss_type=val,model=gemma-3-12b,run_id=12b-capability-auto ")


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_0.pt", "pytorch_model.bin", "lora.ckpt"])
def test_pickled_weights_are_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "run" / "checkpoint-7")
    (folder / "adapter_model.safetensors").rename(folder / name)
    for other in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"):
        (folder / other).write_bytes(b"")
    found = look(tmp_path / "run")
    assert found.checkpoints == []
    [refused] = found.refused
    assert refused.checkpoint.label == "run @7"
    assert refused.reason == (
        f"{folder}/{name}: pickled weights can run code and are never read; save the adapter as safetensors "
        "(safe_serialization=True)"
    )


def test_what_a_trainer_pickles_beside_its_safetensors_is_no_fault(tmp_path: Path) -> None:
    folder = write(tmp_path / "run" / "checkpoint-7")
    for name in ("optimizer.pt", "adapter_model.bin", "training_args.bin"):
        (folder / name).write_bytes(b"")
    (tmp_path / "run" / "base").mkdir()
    (tmp_path / "run" / "base" / "pytorch_model.bin").write_bytes(b"")
    found = look(tmp_path / "run")
    assert [c.label for c in found.checkpoints] == ["run @7"]
    assert (found.refused, found.unlisted) == ([], [])


def test_checkpoints_of_whole_models_are_said_once_a_run(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / "full" / f"checkpoint-{number}"
        folder.mkdir(parents=True)
        (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    found = look(tmp_path)
    assert found.checkpoints == []
    assert found.unlisted == [f"{tmp_path}/full's checkpoints of whole models: only adapters are evaluated"]
