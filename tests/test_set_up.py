"""Set-up on a fresh machine: which PyTorch is taken, and what is refused. Nothing is installed here."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def set_up():
    spec = importlib.util.spec_from_file_location("set_up", ROOT / "tools" / "set_up.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def calls(set_up, monkeypatch):
    """Calls of pip; a dry run reports the packages in `calls.resolved`, an installation `calls.archives`."""

    class Calls(list):
        resolved = ("torch", "sympy")
        archives = ()

    made = Calls()

    def pip(*arguments, remedy=""):
        if "--report" in arguments:
            place = arguments.index("--report")
            archives = made.archives if "--dry-run" not in arguments else ()
            listed = [{"metadata": {"name": name}} for name in made.resolved if "--dry-run" in arguments]
            Path(arguments[place + 1]).write_text(json.dumps({"install": [*listed, *archives]}))
            arguments = (*arguments[:place], *arguments[place + 2 :])
        made.append(arguments)

    monkeypatch.setattr(set_up, "pip", pip)
    return made


def test_a_configured_cpu_build_is_taken_and_no_other_address_asked(set_up, calls):
    set_up.install_torch("torch==2.13.0", [], gpu=False)
    assert calls[-1] == ("install", "--quiet", "torch==2.13.0")


@pytest.mark.parametrize("name", ["nvidia-cublas-cu12", "nvidia_cudnn", "triton", "cuda-toolkit"])
def test_without_a_gpu_the_cuda_build_is_replaced(set_up, calls, name):
    calls.resolved = ("torch", name)
    set_up.install_torch("torch==2.13.0", [], gpu=False)
    assert set_up.CPU_INDEX in calls[-1]
    assert calls[-1][-1] == "torch==2.13.0"


def test_with_a_gpu_or_own_options_nothing_is_resolved_beforehand(set_up, calls):
    set_up.install_torch("torch==2.13.0", [], gpu=True)
    set_up.install_torch("torch", ["--index-url", "https://example.org/simple"], gpu=False)
    assert calls == [
        ("install", "--quiet", "torch==2.13.0"),
        ("install", "--quiet", "--index-url", "https://example.org/simple", "torch"),
    ]


@pytest.mark.parametrize("arrived", ["nvidia-nccl-cu12", "triton", "torchvision"])
def test_what_must_not_arrive_is_refused_in_one_line(set_up, monkeypatch, arrived):
    monkeypatch.setattr(set_up, "installed", lambda: {"torch": "2.13.0", arrived: "1"})
    with pytest.raises(SystemExit) as error:
        set_up.check(gpu=False)
    assert str(error.value).startswith("set-up: ")
    assert "\n" not in str(error.value)
    assert ".venv" in str(error.value)


def test_cuda_packages_are_welcome_with_a_gpu(set_up, monkeypatch):
    monkeypatch.setattr(set_up, "installed", lambda: {"torch": "2.13.0", "nvidia-nccl-cu12": "1"})
    set_up.check(gpu=True)


def test_the_answer_wins_over_the_machine(set_up, monkeypatch):
    monkeypatch.setattr(set_up.shutil, "which", lambda name: None)
    assert set_up.has_gpu("yes")
    assert not set_up.has_gpu("no")
    assert not set_up.has_gpu("")


def test_all_packages_but_pytorch_are_compared_with_their_hashes(set_up, calls):
    set_up.install_locked()
    set_up.install_package()
    assert calls[0] == ("install", "--quiet", "--no-deps", "--require-hashes", "-r", "requirements.lock")
    assert {"--no-deps", "--no-build-isolation"} <= set(calls[1])  # nothing else is fetched, not even to build


def archive(**hashes):
    return {"metadata": {"name": "torch", "version": "2.13.0"}, "download_info": {"archive_info": {"hashes": hashes}}}


def test_another_build_of_pytorch_is_told(set_up, calls, capsys):
    listed = re.search(r"^torch==.*?sha256:(\w+)", (ROOT / "torch.lock").read_text(), re.MULTILINE | re.DOTALL)[1]
    calls.archives = (archive(sha256=listed),)
    set_up.install_torch("torch==2.13.0", [], gpu=True)
    assert capsys.readouterr().out == ""
    calls.archives = (archive(sha256="0" * 64), archive())
    set_up.install_torch("torch==2.13.0", [], gpu=True)
    other, unknown = capsys.readouterr().out.splitlines()
    assert other == f"set-up: torch 2.13.0: an archive that torch.lock does not list (sha256 {'0' * 64})"
    assert unknown == "set-up: torch 2.13.0: pip does not tell the archive's hash; compared with nothing"


def pinned(name):
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in lines}


def test_the_locks_hold_the_versions_of_the_constraints():
    locked = pinned("requirements.lock")
    assert locked | {"torch": pinned("torch.lock")["torch"]} == pinned("constraints.txt")


@pytest.mark.parametrize("name", ["requirements.lock", "torch.lock"])
def test_every_line_of_a_lock_is_held_by_a_hash(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pinned(name))
    for block in blocks:
        assert re.fullmatch(r"[\w.-]+==[^\\\n]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n(    # .*\n)*", block), block[
            :80
        ]


def test_the_lock_brings_what_the_project_asks_for(set_up):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    more = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for extra in set_up.EXTRAS.split(",") for line in more[extra])]
    locked = pinned("requirements.lock") | pinned("torch.lock")
    for line in asked:
        need = Requirement(line)
        assert locked[re.sub(r"[-_.]+", "-", need.name).lower()] in need.specifier, line


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_missing_python_is_said_in_one_line(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "requirements.lock", "torch.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "set_up.py", tmp_path / "tools")
    done = subprocess.run(["make", "demo", "PY="], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("set-up: no Python 3.11 or newer found")
    assert not (tmp_path / ".venv").exists()
