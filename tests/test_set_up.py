"""Set-up on a fresh machine: which PyTorch is taken, and what is refused. Nothing is installed here."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def set_up():
    spec = importlib.util.spec_from_file_location("set_up", ROOT / "tools" / "set_up.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def calls(set_up, monkeypatch):
    """Calls of pip; a dry run reports the packages in `calls.resolved`."""

    class Calls(list):
        resolved = ("torch", "sympy")

    made = Calls()

    def pip(*arguments, remedy=""):
        made.append(arguments)
        if "--dry-run" in arguments:
            report = {"install": [{"metadata": {"name": name}} for name in made.resolved]}
            Path(arguments[arguments.index("--report") + 1]).write_text(json.dumps(report))

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


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_missing_python_is_said_in_one_line(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "set_up.py", tmp_path / "tools")
    done = subprocess.run(["make", "demo", "PY="], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("set-up: no Python 3.11 or newer found")
    assert not (tmp_path / ".venv").exists()
