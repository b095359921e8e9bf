"""Lock of the installed packages: versions of `constraints.txt`, and the SHA-256 of every archive of each.

Run after a change of `constraints.txt` or `pyproject.toml` (``make lock``). It asks the package index for the archives
of all systems and versions of Python, so that one lock serves them all, and needs the program uv. Two files are
written: ``requirements.lock``, which set-up installs with ``--require-hashes``, and ``torch.lock`` with PyTorch and its
CUDA packages, of which there are several builds: set-up says where the one that came is not listed there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from set_up import EXTRAS, ROOT, is_cuda_package

HEADER = "# Made by tools/write_lock.py (make lock) from constraints.txt and pyproject.toml; do not edit.\n"


def resolve(uv: str) -> str:
    """All packages of the extras with their hashes, as uv writes them."""
    extras = [option for extra in EXTRAS.split(",") for option in ("--extra", extra)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "resolved.txt")
        command = [
            uv, "pip", "compile", "pyproject.toml", *extras, "--constraint", "constraints.txt", "--generate-hashes",
            "--universal", "--python-version", "3.11", "--no-header", "--quiet",
            "--output-file", str(out),
        ]  # fmt: skip
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            sys.exit("lock: uv could not resolve the packages; see the lines above")
        return out.read_text(encoding="utf-8")


def divide(resolved: str) -> tuple[str, str]:
    """Blocks of all packages but PyTorch's, and PyTorch's."""
    blocks = re.split(r"^(?=\S)", resolved, flags=re.MULTILINE)[1:]
    torch = [block for block in blocks if block.startswith("torch==") or is_cuda_package(block)]
    return "".join(block for block in blocks if block not in torch), "".join(torch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", default=shutil.which("uv"), help="the program uv")
    uv = parser.parse_args().uv
    if not uv:
        sys.exit("lock: needs the program uv; install it apart (pipx install uv), or name it: make lock UV=PATH")
    packages, torch = divide(resolve(uv))
    for name, blocks in (("requirements.lock", packages), ("torch.lock", torch)):
        (ROOT / name).write_text(HEADER + blocks, encoding="utf-8")
        print(f"lock: wrote {name}, {len(re.findall(r'^[a-z]', blocks, re.MULTILINE))} packages")


if __name__ == "__main__":
    main()
