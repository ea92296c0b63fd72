"""What is found on a host, and what is said of the rest: the same here and over SSH."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from assay.adapters.files import stage
from assay.checkpoints.discover import Discovery
from assay.checkpoints.readiness import Readiness
from assay.hosts.base import Host, shown
from tests.adapters.test_gguf_lora import made
from tests.adapters.test_peft import write
from tests.models.gguf_tiny import write_base


async def test_adapters_are_found_and_all_else_is_said(host: Host, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write(run / "checkpoint-10")
    pickled = write(run / "checkpoint-20")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    (run / "checkpoint-30").symlink_to(run / "deleted")
    (run / "data").symlink_to("/nowhere")
    (run / "outside").symlink_to("/tmp")
    made(run / "lora-40.gguf")
    write_base(run / "model.gguf")
    found = await Discovery(host, PurePosixPath(run), "r").look()
    assert [(c.label, c.layout) for c in found.checkpoints] == [("r @10", "peft"), ("r @40", "gguf")]
    where = shown(host.name, run)
    assert [each.reason.removeprefix(f"{where}/") for each in found.refused] == [
        "checkpoint-20/adapter_model.bin: pickled weights can run code and are never read; save the adapter as safetensors "
        "(safe_serialization=True)",
        "checkpoint-30: a link that leads nowhere; put the checkpoint itself there",
    ]
    assert sorted(text.removeprefix(f"{where}/") for text in found.unlisted) == [
        "data, a link that leads nowhere",
        "model.gguf, a GGUF model, not an adapter",
        f"outside, a link that leads out of {where}",
    ]
    ready = (await Readiness(host, once=True).look(found.checkpoints)).ready
    copies = [await stage(host, each, tmp_path / "staged") for each in ready]
    assert [copy.architecture for copy in copies] == ["", "llama"]
