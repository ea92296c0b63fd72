"""From a spec to an engine: what is picked, why, and what is refused."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from assay.errors import ModelError
from assay.models.http import HttpModel
from assay.models.http_retry import HttpSettings
from assay.models.open import open_local, open_model, resolve
from assay.models.scripted import open_engine
from assay.models.worker import WorkerModel
from assay.types import EngineSettings
from tests.conftest import LAB

MAC = platform.system() == "Darwin"


def test_a_spec_names_its_engine() -> None:
    assert resolve("mlx:./some/folder").spec == "mlx:./some/folder"
    assert resolve("mlx:./some/folder").why == ""
    assert resolve("scripted:C:odd.yaml").path == "C:odd.yaml"


def test_a_bare_path_picks_the_engine_that_fits_and_says_why() -> None:
    chosen = resolve(str(LAB / "base"))
    assert chosen.engine == ("mlx" if MAC else "llama")
    assert chosen.why
    assert resolve(str(LAB / "base" / "lab-f32.gguf")).engine == "llama"


def folder(path: Path, *names: str, size: int = 1) -> Path:
    path.mkdir()
    for name in names:
        with (path / name).open("wb") as file:
            file.truncate(size)
    return path


def test_small_safetensors_alone_are_mlxs(tmp_path: Path) -> None:
    chosen = resolve(str(folder(tmp_path / "m", "config.json", "model.safetensors")))
    assert chosen.engine == "mlx"
    assert chosen.why


@pytest.mark.skipif(MAC, reason="a Mac runs MLX on its GPU, at any size")
def test_mlx_on_a_linux_cpu_is_never_picked_in_silence_for_a_large_model(tmp_path: Path) -> None:
    large = folder(tmp_path / "m", "config.json", "model.safetensors", size=3_000_000_000)
    with pytest.raises(ModelError, match=r"3\.0 GB .* very slowly"):
        resolve(str(large))
    assert resolve(f"mlx:{large}").engine == "mlx", "unless it is asked for"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "holds no model"),
        (("a.gguf", "b.gguf"), r"2 GGUF files \(a\.gguf, b\.gguf\)"),
        (("x.bin",), "holds no model"),
        (("config.json", "pytorch_model.bin"), "only pickled weights, which can run code and are refused; convert"),
    ],
)
def test_folders_that_say_too_little(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        resolve(str(folder(tmp_path / "m", *names)))


def test_specs_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        resolve(str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"'vllm:m': vllm is asked by its URL; write http://HOST:PORT/v1#MODEL"):
        resolve("vllm:m")
    with pytest.raises(ModelError, match=r"unknown engine 'lama'.*did you mean 'llama'"):
        resolve("lama:x.gguf")
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match="is not a model assay knows"):
        resolve(str(tmp_path / "weights.pt"))


async def test_a_url_is_a_model_elsewhere(tmp_path: Path) -> None:
    chosen = resolve("HTTP://LocalHost:8000/v1/#org/m:7b")
    assert (chosen.engine, chosen.spec) == ("http", "http://localhost:8000/v1#org/m:7b")
    assert resolve("http://127.0.0.1:1/v1/#").spec == "http://127.0.0.1:1/v1", "which model, the server tells"
    assert chosen.remote
    assert not resolve("scripted:x.yaml").remote
    model = await open_model(chosen.spec, EngineSettings(context_length=512), http=HttpSettings(concurrency=1))
    assert isinstance(model, HttpModel)
    assert (model.info.name, model.info.context_length, model.info.concurrency) == (chosen.spec, 512, 1)
    await model.aclose()
    with pytest.raises(ModelError, match="can't run here"):
        await open_local(chosen.spec)
    with pytest.raises(ModelError, match="can't run here"):
        await WorkerModel.open(chosen.spec)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('answers:\n  - contains: "x\n', "script.yaml:3: not valid YAML: found unexpected end of stream"),
        ("name: a\nname: b\n", "script.yaml:2: the key 'name' stands here and in line 1"),
        ("name: a\nanswers: 3\n", "script.yaml:2: the script is wrong at answers: Expected `array`, got `int`"),
        ("answers:\n  - {answer: a}\n  - {contain: x}\n", "script.yaml:3: the script is wrong at answers[1]: "),
        ("- a\n", "script.yaml:1: the script is wrong: Expected `object`, got `array`"),
        ("name: \xff\n", "script.yaml:1: not UTF-8 text; save the file as UTF-8"),
    ],
)
def test_a_script_that_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, wrong: str) -> None:
    script = tmp_path / "script.yaml"
    script.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=re.escape(wrong)) as caught:
        open_engine(str(script), EngineSettings())
    assert "\n" not in str(caught.value)
