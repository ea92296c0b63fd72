"""`assay convert --verify`: it says that a converted adapter is the same, and sees each way in which it could not be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("torch")
pytest.importorskip("mlx.core")
pytest.importorskip("xllamacpp")

from assay.adapters import files, peft
from assay.adapters.bases import read_base
from assay.adapters.convert import Converted, Form, convert
from assay.adapters.sources import Source, source_at
from assay.agreement import TOLERANCE, Agreement
from assay.cli.convert import convert_command
from assay.cli.verifying import plan, verify
from assay.errors import BadInput, ModelError
from assay.models import known
from tests.cli.test_convert import run
from tests.models.architectures import shapes_of, write_adapter, write_model

# PEFT asks transformers by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base") / "llama", "llama")


@pytest.fixture
def source(base: Path, tmp_path: Path) -> Source:
    return source_at(write_adapter(tmp_path / "mlx", shapes_of(base), layers=2))


async def found(source: Source, form: Form, made: Converted, *bases: str, prompts: Path | None = None) -> Agreement:
    chosen = plan(source, form, bases, prompts, TOLERANCE)
    return (await verify(replace(chosen, prompts=chosen.prompts[:2]), source, made))[0]


@pytest.mark.parametrize("form", ["mlx", "peft", "gguf"])
async def test_what_is_the_same_agrees(form: Form, source: Source, base: Path, tmp_path: Path) -> None:
    made = convert(source, tmp_path / ("a.gguf" if form == "gguf" else "out"), form, read_base(base))
    (tmp_path / "prompts.txt").write_text("the thing\n\nthere\n", encoding="utf-8")
    agreement = await found(source, form, made, str(base), prompts=tmp_path / "prompts.txt")
    assert agreement.problem == ""
    assert (agreement.prompts, agreement.same, agreement.changed) == (2, 2, 2)
    assert agreement.apart < 1e-4 < 1 < min(agreement.moved)
    assert agreement.bases_apart < 1e-4


async def test_one_that_was_laid_out_wrongly_is_seen(source: Source, base: Path, tmp_path: Path) -> None:
    made = convert(source, tmp_path / "a.gguf", "gguf", read_base(base))
    data = (tmp_path / "a.gguf").read_bytes()
    tensors = load_file(source.lora.weights)
    name = "model.layers.1.self_attn.q_proj.lora_b"
    rows = np.ascontiguousarray(tensors[name].T)
    order = [h * 8 + half * 4 + i for h in range(4) for i in range(4) for half in (0, 1)]
    permuted = np.ascontiguousarray(rows[order])
    assert data.count(permuted.tobytes()) == 1
    (tmp_path / "a.gguf").write_bytes(data.replace(permuted.tobytes(), rows.tobytes()))
    agreement = await found(source, "gguf", made, str(base))
    assert agreement.problem.startswith("with the adapter they differ by more than the tolerance")
    assert agreement.bases_apart < 1e-4 < TOLERANCE < agreement.apart


@pytest.mark.parametrize("form", ["mlx", "peft"])
async def test_a_scale_that_is_not_the_same_is_seen(form: Form, source: Source, base: Path, tmp_path: Path) -> None:
    made = convert(source, tmp_path / "out", form, read_base(base))
    path = tmp_path / "out" / "adapter_config.json"
    config = json.loads(path.read_text())
    if form == "peft":
        config["lora_alpha"] *= 1.1
    else:
        config["lora_parameters"]["scale"] *= 1.1
    path.write_text(json.dumps(config))
    assert "with the adapter they differ" in (await found(source, form, made, str(base))).problem


async def test_one_that_does_nothing_proves_nothing(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "mlx", shapes_of(base), layers=2)
    weights = folder / "adapters.safetensors"
    save_file({k: v * np.float32("lora_a" in k) for k, v in load_file(weights).items()}, weights)
    source = source_at(folder)
    made = convert(source, tmp_path / "a.gguf", "gguf", read_base(base))
    agreement = await found(source, "gguf", made, str(base))
    assert agreement.problem == "the adapter moves the numbers too little to tell whether both apply it"
    assert agreement.changed == 0


def test_bases_that_differ_end_with_1(source: Source, base: Path, tmp_path: Path) -> None:
    weights = load_file(base / "model.safetensors")
    other = tmp_path / "other"
    other.mkdir()
    for file in base.glob("*.json"):
        (other / file.name).write_bytes(file.read_bytes())
    save_file({k: v * np.float32(1.01) for k, v in weights.items()}, other / "model.safetensors", {"format": "pt"})
    (tmp_path / "prompts.txt").write_text("the thing\n", encoding="utf-8")
    words = "--base", other, "--base", base, "--verify", "--prompts", tmp_path / "prompts.txt"
    done = run(tmp_path / "mlx", "--to", "gguf", "--out", tmp_path / "a.gguf", *words)
    assert done.returncode == 1, done.stderr
    assert "they do not agree: the bases alone differ by more than the tolerance" in done.stdout
    done = run(tmp_path / "mlx", "--to", "gguf", "--out", tmp_path / "a.gguf", "--overwrite", "--json", *words)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)["verified"]
    assert told["agree"] is False
    assert told["engines"] == ["mlx", "llama.cpp"]


def _as_plain_lora(settings: Mapping[str, Any], module: str, shown: PurePath) -> tuple[int, float]:
    return _RANK_AND_SCALE({**settings, "use_rslora": False}, module, shown)


def _undivided(settings: Mapping[str, Any], module: str, shown: PurePath) -> tuple[int, float]:
    rank, scale = _RANK_AND_SCALE(settings, module, shown)
    return rank, scale * rank


def _exchanged(*given: Any, **named: Any) -> dict[str, Any]:
    """The two layers, each as the other."""
    found = _PARTS(*given, **named)
    return {re.sub(r"layers\.(\d)", lambda match: f"layers.{1 - int(match[1])}", name): found[name] for name in found}


_RANK_AND_SCALE, _PARTS = peft._rank_and_scale, peft._parts
FAULTS = {"use_rslora": _as_plain_lora, "alpha": _undivided, "layers": _exchanged}


@pytest.mark.parametrize(("fault", "form"), [("use_rslora", "gguf"), ("alpha", "mlx"), ("layers", "gguf")])
def test_what_is_read_wrongly_is_seen(
    fault: str,
    form: Form,
    source: Source,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fault put into assay's own reader of PEFT's files, which the conversion goes through."""
    convert(source, tmp_path / "peft", "peft", read_base(base))
    if fault == "use_rslora":
        path = tmp_path / "peft" / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "use_rslora": True}))
    (tmp_path / "prompts.txt").write_text("the thing\n", encoding="utf-8")

    def verified() -> tuple[int, str]:
        out = tmp_path / ("a.gguf" if form == "gguf" else "out")
        prompts = tmp_path / "prompts.txt"
        code = convert_command(
            tmp_path / "peft", to=form, out=out, base=[str(base)], verify=True, prompts=prompts, overwrite=True
        )
        return code, capsys.readouterr().out.splitlines()[-1]

    assert verified() == (0, "they agree")
    monkeypatch.setattr(peft, "_parts" if fault == "layers" else "_rank_and_scale", FAULTS[fault])
    code, last = verified()
    assert code == 1
    assert last.startswith("they do not agree: with the adapter they differ by more than the tolerance")


async def test_what_is_read_wrongly_of_mlx_is_seen(
    source: Source, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in the reader of mlx-lm's files, of a checkpoint that has not the name that mlx-lm looks for."""
    weights = source.lora.weights.rename(source.lora.weights.with_name("0000100_adapters.safetensors"))
    made = convert(source_at(weights), tmp_path / "right", "peft", read_base(base))
    assert (await found(source_at(weights), "peft", made, str(base))).problem == ""
    read = files._read_config

    def doubled(path: Path, shown: PurePath) -> Any:
        (rank, scale), *rest = read(path, shown)  # type: ignore[misc]
        return (rank, 2 * scale), *rest

    monkeypatch.setattr(files, "_read_config", doubled)
    made = convert(source_at(weights), tmp_path / "wrong", "peft", read_base(base))
    assert "with the adapter they differ" in (await found(source_at(weights), "peft", made, str(base))).problem


@pytest.mark.parametrize("form", ["gguf", "peft"])
async def test_modules_that_differ_are_run_by_peft(form: Form, source: Source, base: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "peft", "peft", read_base(base))
    weights, config = (tmp_path / "peft" / name for name in ("adapter_model.safetensors", "adapter_config.json"))
    cut = {name: tensor for name, tensor in load_file(weights).items() if "q_proj" in name}
    kept = {n: t[:2] if "lora_A" in n else np.ascontiguousarray(t[:, :2]) for n, t in cut.items()}
    save_file({**load_file(weights), **kept}, weights)
    settings = json.loads(config.read_text())
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 5.0} if form == "peft" else {}}
    config.write_text(json.dumps({**settings, **patterns}))
    mixed = source_at(tmp_path / "peft")
    made = convert(mixed, tmp_path / ("a.gguf" if form == "gguf" else "out"), form, read_base(base))
    assert (await found(mixed, form, made, str(base))).problem == ""


async def test_what_the_library_itself_can_not_load_is_said(source: Source, base: Path, tmp_path: Path) -> None:
    made = convert(source, tmp_path / "peft", "peft", read_base(base))
    config = source.lora.weights.with_name("adapter_config.json")
    settings = json.loads(config.read_text())
    del settings["lora_parameters"]["dropout"]
    config.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"adapters\.safetensors: mlx-lm itself can't load it \(KeyError: 'dropout'\)"):
        await found(source, "peft", made, str(base))


@pytest.mark.parametrize(("package", "engine", "extra"), [("mlx-lm", "mlx", "mlx"), ("peft", "transformers", "torch")])
def test_a_library_that_is_missing_is_said_first(
    package: str, engine: str, extra: str, source: Source, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an adapter from mlx-lm to PEFT: the one that reads it, and the one that is to read what is written."""
    version = known._version
    monkeypatch.setattr(known, "_version", lambda name: "" if name == package else version(name))
    sentence = rf"--verify runs {engine}, which is not installed: pip install 'assay\[{extra}\]'"
    with pytest.raises(BadInput, match=sentence):
        plan(source, "peft", [str(base)], None, TOLERANCE)


def test_what_can_not_be_run_is_said_first(source: Source, base: Path, tmp_path: Path) -> None:
    for bases, sentence in (
        ((), "name the base with --base"),
        ((str(base), str(base), str(base)), "name the base with --base"),
        ((str(tmp_path / "gone"),), "there is no base .*gone; name it with --base"),
        ((str(base), str(tmp_path)), "holds no GGUF file for llama.cpp to run"),
        ((str(tmp_path),), "mlx can't run"),
        ((f"{base}/tiny.gguf",), "mlx can't run"),
        ((f"llama:{base}", str(base)), "a mlx adapter is run by mlx"),
    ):
        with pytest.raises(BadInput, match=sentence):
            plan(source, "gguf", bases, None, TOLERANCE)
    (tmp_path / "empty.txt").write_text("\n")
    for prompts, sentence in ((tmp_path / "none.txt", "can't be read"), (tmp_path / "empty.txt", "holds no prompt")):
        with pytest.raises(BadInput, match=sentence):
            plan(source, "peft", [str(base)], prompts, TOLERANCE)
    with pytest.raises(BadInput, match="must be above 0"):
        plan(source, "peft", [str(base)], None, 0.0)
