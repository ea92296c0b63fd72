"""A model that does not fit in memory is refused before it is loaded, by every engine, with both sizes."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path

import psutil
import pytest

from assay.errors import ModelError
from assay.models.memory import check_room, free_memory, total_memory
from assay.models.open import open_model
from assay.types import EngineSettings
from tests.cli.running import bad
from tests.conftest import LAB

HUGE = 1 << 42  # bytes; what files of no content claim to hold


def huge(folder: Path, dtype: str = "F16") -> Path:
    """The lab's folder with a valid header for HUGE bytes of weights, none of which are on the disk."""
    shutil.copytree(LAB / "base", folder, ignore=shutil.ignore_patterns("*.gguf", "*.safetensors"))
    size = {"F16": 2, "F32": 4}[dtype]
    entry = {"dtype": dtype, "shape": [HUGE // size], "data_offsets": [0, HUGE]}
    header = json.dumps({"model.embed_tokens.weight": entry}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + HUGE)
    return folder


def huge_gguf(path: Path) -> Path:
    """The lab's GGUF, followed by nothing on the disk."""
    shutil.copy(LAB / "base" / "lab-f32.gguf", path)
    with path.open("r+b") as file:
        file.truncate(HUGE)
    return path


@pytest.mark.parametrize("engine", ["mlx", "transformers"])
def test_a_folder_that_does_not_fit_is_refused_with_both_sizes(engine: str, tmp_path: Path) -> None:
    pytest.importorskip("mlx.core" if engine == "mlx" else "torch")
    said = bad(tmp_path, "generate", f"{engine}:{huge(tmp_path / 'base')}", "Hm?")
    needs = "4,398.0" if engine == "mlx" else "9,675.7"
    on_a_mac = engine == "mlx" and sys.platform == "darwin"  # all of it is the GPU's as well
    assert (
        f"takes {needs.replace(',', '')} GB of memory, and this machine {'has' if on_a_mac else 'now has free'} "
        in said
    )
    assert "GB; take a smaller model" in said


def test_a_gguf_that_does_not_fit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    said = bad(tmp_path, "generate", str(huge_gguf(tmp_path / "huge.gguf")), "Hm?")
    assert "takes 4398.0 GB of memory, and this machine has " in said
    assert "GB; take a smaller model, or one with smaller numbers" in said


@pytest.mark.parametrize(
    ("spec", "needs"),
    [("mlx:base", "3,432,904"), ("transformers:base", "3,77"), ("llama:base/lab-f32.gguf", "3,443,424")],
)
async def test_the_users_limit_goes_before_what_is_measured(spec: str, needs: str) -> None:
    engine, _, path = spec.partition(":")
    if engine == "transformers":
        pytest.importorskip("peft", reason="needs the engine transformers: make torch")
    with pytest.raises(ModelError, match=rf"takes {needs}[\d,]* bytes of memory, and memory_limit is 1,000,000 bytes"):
        await open_model(f"{engine}:{LAB / path}", EngineSettings(memory_limit=1_000_000))
    check_room(Path("x"), 10**12, 10**9, 10**13, "this machine", "")


def test_what_is_free_is_what_the_kernel_says() -> None:
    free, known = free_memory(), psutil.virtual_memory()
    assert free is not None
    assert 0 < free <= known.total
    total = total_memory()
    assert total is not None
    assert free <= total <= known.total


MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


@pytest.mark.parametrize(
    ("groups", "files", "free", "total"),
    [
        ("0::/\n", {}, 8_192_000_000, None),
        ("0::/\n", {"memory.max": "max"}, 8_192_000_000, None),
        ("0::/\n", {"memory.max": "2000000", "memory.current": "1500000"}, 500_000, 2_000_000),
        (
            "0::/a/b\n",
            {
                "a/memory.max": "3000000",
                "a/memory.current": "2500000",
                "a/memory.stat": "anon 500000\ninactive_file 2000000",
                "a/b/memory.max": "max",
            },
            2_500_000,
            3_000_000,
        ),
        (
            "4:memory:/c\n0::/\n",
            {"memory/c/memory.limit_in_bytes": "4000000", "memory/c/memory.usage_in_bytes": "1000000"},
            3_000_000,
            4_000_000,
        ),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 8_192_000_000, None),
        ("0::/\n", {"memory.max": "1000", "memory.current": "5000"}, 0, 1000),
    ],
)
def test_a_containers_limit_counts(
    groups: str, files: dict[str, str], free: int, total: int | None, tmp_path: Path
) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    assert free_memory(tmp_path / "proc", tmp_path / "groups") == free
    assert total_memory(tmp_path / "proc", tmp_path / "groups") == (total or psutil.virtual_memory().total)
