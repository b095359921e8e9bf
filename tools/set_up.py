"""Make `.venv` with everything `make demo` and `make test` need; standard library only.

All packages but PyTorch come from `requirements.lock`: pip compares each archive with the SHA-256 written there,
whatever index it is from, and installs nothing that is not listed. PyTorch has several builds and is installed on its
own; set-up says where the archive is none of `torch.lock`. Without a GPU no CUDA package may arrive: the plain name is
resolved in a dry run first, and where that leads to the CUDA build, PyTorch's own index of CPU builds is used instead.
Variables of the Makefile override both decisions:

TORCH  what to install, e.g. ``torch==2.9.1`` (default: the version of constraints.txt)
PIPX   options for that one pip call, e.g. ``--index-url <address>``; nothing is resolved beforehand then
GPU    ``yes`` or ``no`` instead of asking ``nvidia-smi``
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv" / "bin" / "python"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # documented at pytorch.org/get-started
EXTRAS = "classical,phantom,dicom,surface,ray,serve,dev"
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton", "pytorch-triton")


def stop(message: str) -> None:
    """End with one line."""
    sys.exit(f"set-up: {message}")


def pip(*arguments: str, remedy: str = "see the lines above") -> None:
    """Run the environment's pip, or stop with what it was asked and a remedy."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        stop(f"pip {' '.join(arguments)} failed; {remedy}")


def make_environment() -> None:
    """Create `.venv` unless a working one is there."""
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        stop("this Python cannot make environments; on Debian or Ubuntu run: apt-get install python3-venv")
    works = (
        PYTHON.exists()
        and not subprocess.run(
            [str(PYTHON), "-m", "pip", "--version"], stdout=subprocess.DEVNULL, check=False
        ).returncode
    )
    if not works:
        print(f"set-up: making .venv with {sys.executable}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PYTHON.parents[1])], check=True)


def has_gpu(answer: str) -> bool:
    """Whether CUDA builds are wanted: as told, else whether `nvidia-smi` lists a device."""
    if answer:
        return answer == "yes"
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def is_cuda_package(name: str) -> bool:
    """Whether a distribution belongs to the CUDA build of PyTorch."""
    return name.lower().replace("_", "-").startswith(CUDA_PACKAGES)


def resolves_to_cuda(torch: str) -> bool:
    """Whether installing `torch` from the configured indices would bring CUDA packages; installs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip("install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report), torch)
        names = [item["metadata"]["name"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return any(is_cuda_package(name) for name in names)


def install_torch(torch: str, options: list[str], gpu: bool) -> None:
    """Install PyTorch: as told, else the CPU build on a machine without a GPU."""
    remedy = "see the lines above"
    if not options and not gpu and resolves_to_cuda(torch):
        print(f"set-up: no GPU found; taking the CPU build from {CPU_INDEX} (GPU=yes takes the other)", flush=True)
        options = ["--index-url", CPU_INDEX, "--retries", "1"]
        remedy = "if that address cannot be reached, run: make PIPX='--find-links FOLDER_WITH_A_CPU_WHEEL'"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip("install", "--quiet", *options, "--report", str(report), torch, remedy=remedy)
        arrived = json.loads(report.read_text(encoding="utf-8"))["install"]
    for line in not_listed(arrived, (ROOT / "torch.lock").read_text(encoding="utf-8")):
        print(f"set-up: {line}", flush=True)


def not_listed(arrived: list[dict[str, Any]], lock: str) -> list[str]:
    """A line for every archive of pip's report whose SHA-256 is not in the lock; other builds have other ones."""
    lines = []
    for item in arrived:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        archive = item.get("download_info", {}).get("archive_info", {})
        sha256 = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=")
        if not sha256:
            lines.append(f"{name} {version}: pip does not tell the archive's hash; compared with nothing")
        elif f"--hash=sha256:{sha256}" not in lock:
            lines.append(f"{name} {version}: an archive that torch.lock does not list (sha256 {sha256})")
    return lines


def installed() -> dict[str, str]:
    """Name and version of every distribution in the environment."""
    listing = subprocess.run(
        [str(PYTHON), "-m", "pip", "list", "--format=json"], capture_output=True, encoding="utf-8", check=True
    )
    return {item["name"]: item["version"] for item in json.loads(listing.stdout)}


def install_locked() -> None:
    """Install what the lock lists, and nothing else; every archive is compared with its hash."""
    pip("install", "--quiet", "--no-deps", "--require-hashes", "-r", "requirements.lock")


def install_package() -> None:
    """Install anymri in place, with the build backend of the lock."""
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "-e", ".")


def check(gpu: bool) -> None:
    """Refuse an environment that holds what must not have come."""
    names = installed()
    if "torchvision" in names:
        stop("torchvision arrived, which does not fit a CPU build; remove .venv and report which package asked for it")
    arrived = [name for name in names if is_cuda_package(name)]
    if arrived and not gpu:
        stop(f"CUDA packages on a machine without a GPU ({', '.join(arrived[:3])}); remove .venv and run: "
             f"make PIPX='--index-url {CPU_INDEX}'")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default="", help="requirement of PyTorch")
    parser.add_argument("--pip-options", default="", help="options for installing PyTorch")
    parser.add_argument("--gpu", default="", choices=["", "yes", "no"])
    options = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - the Makefile may be given any interpreter
        stop(f"Python {sys.version.split()[0]} is too old; anymri needs 3.11 or newer")
    tested = next(
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("torch==")
    )
    gpu = has_gpu(options.gpu)
    make_environment()
    print("set-up: installing the packages of requirements.lock", flush=True)
    install_locked()
    install_torch(options.torch or tested, shlex.split(options.pip_options), gpu)
    install_package()
    check(gpu)


if __name__ == "__main__":
    main()
