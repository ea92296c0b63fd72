"""GGUF adapters in a watched folder, among models; and links that lead nowhere."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from assay.checkpoints.discover import Discovery
from assay.checkpoints.readiness import Readiness
from assay.hosts.local import LocalHost
from tests.adapters.test_gguf_lora import made
from tests.adapters.test_peft import write
from tests.checkpoints.test_layouts import look
from tests.making import _outside, checkpoints, copied
from tests.models.gguf_tiny import write_base


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("run/0000100_adapters.gguf", "run @100"),
        ("run/checkpoint-100/adapter-f16.gguf", "run @100"),
        ("run/lora-100.gguf", "run @100"),
        ("run/ggml-lora-100-f32.gguf", "run @100"),
        ("run/Llama-3-8B-checkpoint-100-F16-LoRA.gguf", "run @100"),
        ("run/Qwen-r16-step100.gguf", "run @100"),
        ("run/Llama-3.2-1B-F16-LoRA.gguf", "run @final"),
        ("run/lora-8b.gguf", "run @final"),
        ("adapters-12b/checkpoint-100/adapter.gguf", "G12 @100"),
    ],
)
def test_the_iteration_is_in_the_name_of_file_or_folder(tmp_path: Path, file: str, label: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    made(path)
    [found] = look(tmp_path).checkpoints
    assert (found.label, found.layout, found.numbered) == (label, "gguf", "final" not in label)
    assert found.iteration == (100 if found.numbered else 0)


def test_models_are_passed_over_and_so_is_what_lies_beside_its_safetensors(tmp_path: Path) -> None:
    checkpoints(tmp_path / "run", (100,))
    made(tmp_path / "run" / "0000100_adapters.gguf")
    made(tmp_path / "run" / "0000200_adapters.gguf")
    made(tmp_path / "run" / "imatrix.gguf", kind="imatrix")
    write_base(tmp_path / "run" / "fused-300.gguf")
    found = look(tmp_path)
    assert {(c.iteration, c.layout) for c in found.checkpoints if c.numbered} == {(100, "mlx"), (200, "gguf")}
    run = PurePosixPath(tmp_path / "run")
    assert sorted(found.unlisted) == [
        f"{run}/0000100_adapters.gguf, for 0000100_adapters.safetensors is of the same checkpoint, and read in its place",
        f"{run}/fused-300.gguf, a GGUF model, not an adapter",
        f"{run}/imatrix.gguf, a GGUF imatrix, not an adapter",
    ]


def test_of_pickled_weights_an_adapter_may_be_converted_but_no_model_hides_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoint-100")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    write_base(folder / "merged.gguf")
    assert [each.checkpoint.weights.name for each in look(tmp_path).refused] == ["adapter_model.bin"]
    made(folder / "adapter.gguf")
    found = look(tmp_path)
    assert ([c.weights.name for c in found.checkpoints], found.refused) == (["adapter.gguf"], [])


def test_several_of_one_iteration_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    for name in ("adapter-f16", "adapter-q8_0"):
        made(tmp_path / "checkpoint-5" / f"{name}.gguf")
    found = look(tmp_path, "r").checkpoints
    assert [c.label for c in found] == ["r @5 adapter-f16", "r @5 adapter-q8_0"]


class Reads(LocalHost):
    """This machine, and which of its files were read."""

    def __init__(self) -> None:
        self.read_files: list[str] = []

    async def read(self, path: PurePosixPath, start: int = 0, length: int | None = None) -> bytes:
        self.read_files.append(path.name)
        return await super().read(path, start, length)


def test_a_file_is_read_once_and_one_that_is_journaled_never(tmp_path: Path) -> None:
    made(tmp_path / "lora-1.gguf")
    path = made(tmp_path / "lora-2.gguf")
    host = Reads()
    discovery = Discovery(host, PurePosixPath(tmp_path), "r", known=[(PurePosixPath("lora-1.gguf"), "r")])
    for _ in range(3):
        assert len(_outside(discovery.look()).checkpoints) == 2
    assert host.read_files == ["lora-2.gguf"]
    made(path, kind="model", rank=4)
    assert len(_outside(discovery.look()).checkpoints) == 1


def test_one_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    whole = made(tmp_path / "lora-1.gguf").read_bytes()
    readiness = Readiness(LocalHost(), once=False)
    for length in (0, 30, 200, len(whole) - 1):
        (tmp_path / "lora-1.gguf").write_bytes(whole[:length])
        for _ in range(2):
            look_of = _outside(readiness.look(look(tmp_path, "r").checkpoints))
        [(checkpoint, reason)] = look_of.waiting
        assert checkpoint.label == "r @1"
        assert "may still be being written" in reason
    (tmp_path / "lora-1.gguf").write_bytes(whole)
    for _ in range(2):
        look_of = _outside(readiness.look(look(tmp_path, "r").checkpoints))
    [ready] = look_of.ready
    adapter = copied(ready, tmp_path / "staged")
    assert adapter.weights == tmp_path / "staged" / adapter.digest / "adapter.gguf"


def test_links_that_lead_nowhere_are_said(tmp_path: Path) -> None:
    checkpoints(tmp_path, (10,))
    for name in ("checkpoint-200", "0000300_adapters.safetensors", "data", "last.gguf", ".hidden"):
        (tmp_path / name).symlink_to("/nowhere/at/all" if name != "data" else tmp_path / "deleted")
    found = look(tmp_path, "r")
    assert sorted(each.reason for each in found.refused) == [
        f"{tmp_path}/0000300_adapters.safetensors: a link that leads nowhere; put the checkpoint itself there",
        f"{tmp_path}/checkpoint-200: a link that leads nowhere; put the checkpoint itself there",
    ]
    assert sorted(each.checkpoint.iteration for each in found.refused) == [200, 300]
    assert sorted(found.unlisted) == [f"{tmp_path}/{name}, a link that leads nowhere" for name in ("data", "last.gguf")]
    assert [c.label for c in found.checkpoints if c.numbered] == ["r @10"]
