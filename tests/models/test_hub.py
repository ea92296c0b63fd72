"""Models by a hub's id: found in the hub's cache, fetched only when asked, from a hub on a real socket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assay.errors import ModelError
from assay.models.hub import cached_models, choose_gguf, hub_cache, hub_name, shards_of
from assay.models.open import open_model, resolve
from tests.cli.running import ASSAY
from tests.conftest import LAB
from tests.models.hub_server import COMMIT, Hub, files_of, serving

BASE = LAB / "base"
TENSORS = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, which the variable names."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


def keep(cache: Path, repo: str, files: dict[str, bytes], commit: str = COMMIT, ref: str = "main") -> Path:
    """Files in the cache as huggingface_hub leaves them: a ref, and a snapshot of links to blobs."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    for name, data in files.items():
        link, blob = folder / "snapshots" / commit / name, folder / "blobs" / name.replace("/", "-")
        for place in (link, blob):
            place.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if ref:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    return folder / "snapshots" / commit


def run(hub: Hub | None, *words: str, token: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([ASSAY, *words], capture_output=True, text=True, timeout=120, env=environment(hub, token))
    assert "Traceback" not in done.stderr
    return done


def environment(hub: Hub | None, token: str = "") -> dict[str, str]:
    where = hub.url if hub is not None else "http://127.0.0.1:9"
    return {**os.environ, "HF_ENDPOINT": where, "NO_PROXY": "*", **({"HF_TOKEN": token} if token else {})}


def refused(hub: Hub | None, *words: str, token: str = "", code: int = 2) -> str:
    done = run(hub, *words, token=token)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.strip().count("\n") == 0
    return done.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("org/name", ("org/name", "", "")),
        ("org/name@refs/pr/1", ("org/name", "refs/pr/1", "")),
        ("org/name-7B_v0.1@abc:Q4_K_M", ("org/name-7B_v0.1", "abc", "Q4_K_M")),
        ("org/name:sub/file.gguf", ("org/name", "", "sub/file.gguf")),
        ("name", None),
        ("a/b/c", None),
        ("./org/name", None),
        ("../name", None),
        ("~/name", None),
        ("models/x.gguf", None),
        ("org/name@../../etc", None),
    ],
)
def test_what_is_a_hubs_id(text: str, found: tuple[str, str, str] | None) -> None:
    name = hub_name(text)
    assert (None if name is None else (name.repo, name.revision, name.part)) == found
    assert name is None or str(name) == text


def test_the_cache_is_where_huggingface_hub_has_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[dict[str, str]] = [
        {},
        {"HF_HOME": "/data/hf"},
        {"HF_HOME": "~/hf"},
        {"XDG_CACHE_HOME": "/x"},
        {"HF_HUB_CACHE": "$HOME/c", "HF_HOME": "/no"},
        {"HUGGINGFACE_HUB_CACHE": "/legacy"},
    ]
    names = sorted({"HF_HOME", *(name for case in cases for name in case)})
    code = (
        "import importlib, json, os, sys\nfrom huggingface_hub import constants\n"
        f"for case in {cases!r}:\n"
        f"    for name in {names!r}: os.environ.pop(name, None)\n"
        "    os.environ.update(case)\n    print(importlib.reload(constants).HF_HUB_CACHE)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for case, theirs in zip(cases, done.stdout.split(), strict=True):
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name, value in case.items():
            monkeypatch.setenv(name, value)
        assert str(hub_cache()) == theirs


async def test_a_cached_model_is_opened_by_its_id_and_is_the_same_as_its_folder(cache: Path) -> None:
    snapshot = keep(cache, "acme/lab", files_of(BASE, *TENSORS))
    found = resolve("mlx:acme/lab")
    assert (found.path, found.spec, found.name) == (str(snapshot), "mlx:acme/lab@0123456789ab", "lab")
    assert found.why == "acme/lab is in the hub's cache, at 0123456789ab"
    assert resolve(found.spec) == found
    assert resolve("hf:acme/lab").engine == resolve("transformers:acme/lab@main").engine == "transformers"
    one, other = await open_model("mlx:acme/lab"), await open_model(f"mlx:{BASE}")
    assert one.info.name == "mlx:acme/lab@0123456789ab"
    assert one.info.identity == other.info.identity, "by content, not by name"
    await one.aclose()
    await other.aclose()


def test_a_revision_is_a_ref_or_the_beginning_of_a_commit(cache: Path) -> None:
    files = files_of(BASE, *TENSORS)
    keep(cache, "acme/lab", files, ref="v2")
    assert resolve("mlx:acme/lab@v2").path.endswith(COMMIT)
    assert resolve("mlx:acme/lab@0123456").path.endswith(COMMIT)
    with pytest.raises(ModelError, match=r"no main of acme/lab, but 0123456789ab; name one, as acme/lab@0123456789ab"):
        resolve("mlx:acme/lab")
    with pytest.raises(ModelError, match=r"does not hold it; .*assay fetch mlx:acme/lab@v3"):
        resolve("mlx:acme/lab@v3")


def test_a_folder_that_is_there_goes_before_the_hub(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, "acme/lab", files_of(BASE, *TENSORS))
    (tmp_path / "acme" / "lab").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("mlx:acme/lab").path == "acme/lab"


def test_the_gguf_of_a_repository_is_named_by_its_file_or_its_quant(cache: Path) -> None:
    data = (BASE / "lab-f32.gguf").read_bytes()
    names = (
        "lab-Q4_K_M.gguf",
        "lab-Q8_0.gguf",
        "BF16/lab-BF16-00001-of-00002.gguf",
        "BF16/lab-BF16-00002-of-00002.gguf",
    )
    keep(cache, "acme/lab-GGUF", dict.fromkeys((*names, "mmproj-lab-Q8_0.gguf"), data))
    assert Path(resolve("llama:acme/lab-GGUF:q4_k_m").path).name == names[0]
    assert Path(resolve("acme/lab-GGUF:lab-Q8_0.gguf").path).name == names[1]
    assert resolve("llama:acme/lab-GGUF:bf16").spec == f"llama:acme/lab-GGUF@0123456789ab:{names[2]}"
    assert resolve(resolve("llama:acme/lab-GGUF:bf16").spec).path == resolve("llama:acme/lab-GGUF:bf16").path
    assert resolve("llama-server:acme/lab-GGUF:bf16").spec == f"llama-server:acme/lab-GGUF@0123456789ab:{names[2]}"
    with pytest.raises(ModelError, match="names a GGUF file, which mlx can't open"):
        resolve("mlx:acme/lab-GGUF:bf16")
    with pytest.raises(ModelError, match=r"3 GGUF files .*name the one you mean, such as llama:acme/lab-GGUF:lab-B"):
        resolve("llama:acme/lab-GGUF")
    with pytest.raises(ModelError, match=r"no GGUF file 'Q4' in the hub's cache \(BF16/"):
        resolve("llama:acme/lab-GGUF:Q4")
    assert shards_of(names[2], names) == [names[2], names[3]]
    name = hub_name("a/b:K_M")
    assert name is not None
    with pytest.raises(ModelError, match="no GGUF file 'K_M'"):
        choose_gguf(["b-Q4_K_M_L.gguf"], name, "here")


def test_what_is_not_here_or_only_in_part_is_said_with_how_to_fetch_it(cache: Path) -> None:
    said = refused(None, "generate", "acme/lab", "Hm?")
    assert "there is no folder acme/lab" in said
    assert "assay fetch acme/lab" in said
    index = {
        "metadata": {"total_size": 14_500_000_000},
        "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"},
    }
    files = files_of(BASE, "config.json", "tokenizer.json") | {
        "model.safetensors.index.json": json.dumps(index).encode()
    }
    keep(cache, "acme/lab", files)
    with pytest.raises(
        ModelError, match=r"only in part \(model-1\.safetensors, model-2\.safetensors missing, of 14\.5 GB in all"
    ):
        resolve("mlx:acme/lab")
    for gone in ("model.safetensors", "config.json", "tokenizer.json"):  # its blob was removed from the cache
        name = f"acme/without-{gone.removesuffix('.json')}"
        (keep(cache, name, files_of(BASE)) / gone).resolve().unlink()
        for spec in (f"mlx:{name}", f"hf:{name}"):
            with pytest.raises(ModelError, match=rf"only in part \({gone} missing\); .* assay fetch {spec}$"):
                resolve(spec)
    keep(cache, "acme/one", {"config.json": b"{}", "model-00001-of-00002.safetensors": b"x"})
    with pytest.raises(ModelError, match=r"only in part \(model-00002-of-00002\.safetensors missing\)"):
        resolve("acme/one")
    keep(cache, "acme/split", {"m-00001-of-00002.gguf": b"x"})
    with pytest.raises(ModelError, match=r"only in part \(m-00002-of-00002\.gguf missing\)"):
        resolve("llama:acme/split")
    keep(cache, "acme/old", {"config.json": b'{"model_type": "llama"}', "pytorch_model.bin": b"\x80"})
    assert "only pickled weights" in refused(None, "generate", "mlx:acme/old", "Hm?")
    assert "only pickled weights" in refused(None, "generate", "hf:acme/old", "Hm?")


def test_a_model_is_fetched_when_asked_and_then_answers_without_a_hub(cache: Path) -> None:
    hub = Hub({"acme/lab": files_of(BASE) | {"README.md": b"x", "modeling_lab.py": b"x", "pytorch_model.bin": b"x"}})
    with serving(hub):
        done = run(hub, "fetch", "acme/lab")
        assert done.returncode == 0, done.stderr
        assert done.stderr == "acme/lab@0123456789ab: 5 files, 3.5 MB\n"
        assert {name for name, _ in hub.asked} == set(TENSORS), "what no engine reads is not fetched"
        hub.asked.clear()
        assert run(hub, "fetch", "mlx:acme/lab").stdout == done.stdout
        assert hub.asked == [], "what is here is not fetched again"
        gguf = run(hub, "fetch", "llama:acme/lab:f32")
        assert gguf.returncode == 0, gguf.stderr
        assert [name for name, _ in hub.asked] == ["lab-f32.gguf"]
    assert Path(done.stdout.strip()) == cache / "models--acme--lab" / "snapshots" / COMMIT
    answer = run(None, "generate", "llama:acme/lab", "What is 3 + 4?", "--json")
    assert json.loads(answer.stdout)["text"] == "3 + 4 = 7", answer.stderr
    assert json.loads(answer.stdout)["model"] == "llama:acme/lab@0123456789ab:lab-f32.gguf"
    assert [str(name) for name, _ in cached_models()] == ["acme/lab", "acme/lab:lab-f32.gguf"]
    shown = run(None, "models").stdout.splitlines()
    assert [line.split() for line in shown[-2:]] == [
        ["acme/lab", "3.4", "MB"],
        ["acme/lab:lab-f32.gguf", "3.4", "MB"],
    ]


# Asks for each of the given specs, and tells what came of it: several at once, for importing huggingface_hub takes a second.
ASK = """
import sys
from assay.errors import AssayError
from assay.models.hub_fetch import wanted
from assay.models.open import named_on_hub
for spec in sys.argv[1:]:
    engine, name = named_on_hub(spec)
    try:
        print(0, wanted(name, engine).about)
    except AssayError as error:
        print(error.exit_code, error)
"""


def asked(hub: Hub | None, *specs: str, token: str = "") -> list[str]:
    command = [sys.executable, "-c", ASK, *specs]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment(hub, token)
    ).stdout.splitlines()


def test_what_a_hub_refuses_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(
        {
            "acme/old": {"config.json": b"{}", "pytorch_model.bin": b"x"},
            "acme/ggufs": {"a-Q4_0.gguf": b"x", "a-Q8_0.gguf": b"x"},
            "acme/gated": files_of(BASE, *TENSORS),
        },
        gated={"acme/gated"},
    )
    with serving(hub):
        specs = ("acme/none", "acme/old@v9", "hf:acme/old", "acme/ggufs", "mlx:acme/ggufs", "acme/gated")
        found = asked(hub, *specs)
        assert [line[0] for line in found] == ["2"] * len(specs)
        assert "the hub has no model acme/none, or not for you" in found[0]
        assert "no revision v9" in found[1]
        assert "only pickled weights" in found[2]
        assert "2 GGUF files on the hub (a-Q4_0.gguf, a-Q8_0.gguf)" in found[3]
        assert "take llama:acme/ggufs" in found[4]
        assert "gated: accept its terms" in found[5]
        none, gated = asked(hub, "acme/none", "acme/gated", token="hf_wrong")
        assert "the hub has no model acme/none" in none
        assert "gated: accept its terms" in gated
        assert asked(hub, "acme/gated", token="let-me-in") == ["0 acme/gated@0123456789ab: 5 files, 3.5 MB"]
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert "HF_HUB_OFFLINE is set" in asked(hub, "acme/gated")[0]
        assert hub.asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "can't be fetched now" in refused(None, "fetch", "acme/none", code=3)


def test_a_download_that_breaks_off_goes_on_and_ctrl_c_ends_it(cache: Path) -> None:
    weights = os.urandom(24 << 20)
    hub = Hub({"acme/big": {"config.json": b"{}", "model.safetensors": weights}}, cut_at=11 << 20, cuts=1, stalls=True)
    with serving(hub):
        child = subprocess.Popen([ASSAY, "fetch", "mlx:acme/big"], stderr=subprocess.PIPE, env=environment(hub))
        assert hub.stalled.wait(60)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130, "Ctrl-C does not wait for the hub"
        hub.go_on.set()
        assert child.stderr is not None
        assert b"Traceback" not in child.stderr.read()
        child.stderr.close()
        assert "only in part (the weights missing" in refused(None, "generate", "mlx:acme/big", "Hm?")
        hub.asked.clear()
        hub.stalls, hub.cuts = False, 1
        done = run(hub, "fetch", "mlx:acme/big")
    assert done.returncode == 0, done.stderr
    assert hub.asked == [("model.safetensors", ""), ("model.safetensors", f"bytes={10 << 20}-")]
    assert (Path(done.stdout.strip()) / "model.safetensors").read_bytes() == weights


def test_a_base_that_only_the_adapters_configuration_names_is_found_in_the_cache(cache: Path, tmp_path: Path) -> None:
    keep(cache, "acme/lab", files_of(BASE))
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    config = json.loads((LAB / "checkpoints" / "adapter_config.json").read_text())
    (run_folder / "adapter_config.json").write_text(json.dumps({**config, "model": "acme/lab"}))
    shutil.copy(LAB / "checkpoints" / "0000120_adapters.safetensors", run_folder)
    suite = str(LAB / "suite.yaml")
    watch = (
        "watch",
        str(run_folder),
        "--suite",
        suite,
        "--limit",
        "1",
        "--once",
        "--workspace",
        str(tmp_path / "results"),
    )
    done = run(None, *watch)
    assert done.returncode == 0, done.stderr
    assert "acme/lab is in the hub's cache, at 0123456789ab" in done.stderr
    (run_folder / "adapter_config.json").write_text(json.dumps({**config, "model": "acme/none"}))
    lost = run(None, *watch[:-1], str(tmp_path / "others"))
    assert lost.returncode == 1
    assert "its base can't be opened: there is no folder acme/none" in " ".join(lost.stderr.split())
    assert "assay fetch acme/none" in " ".join(lost.stderr.split())
