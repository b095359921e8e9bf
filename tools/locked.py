"""Packages of the locks: version, hashes, what asks for them, licence; for the licence page, the SBOM and the audit."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from set_up import EXTRAS, ROOT

PROJECT = "anymri"
#: Words of a distribution's own metadata and the SPDX identifier they stand for.
SPDX = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "bsd 2-clause license": "BSD-2-Clause",
    "3-clause bsd license": "BSD-3-Clause", "mit license": "MIT", "isc license": "ISC", "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "python software foundation license": "PSF-2.0",
}  # fmt: skip
#: Read by a person, where the metadata names no licence or the package is not installed on every system.
STATED = {
    "axe-playwright-python": "MIT AND MPL-2.0",  # its own licence file, and that of axe-core inside
    "httpx2-jsfetch": "BSD-3-Clause",
    "colorama": "BSD-3-Clause",
    "dcm2niix": "BSD-2-Clause AND MIT",  # its parts are named in its licence file
    "importlib-resources": "Apache-2.0",
    "setuptools": "MIT",
    "triton": "MIT",
    "cuda-pathfinder": "Apache-2.0",
}
#: Licences under which a package may be used beside Apache-2.0 without terms for anymri itself.
COMPATIBLE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC",
    "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip


@dataclass(frozen=True)
class Locked:
    """One package of a lock.

    Parameters
    ----------
    name, version : str
        The name in its normal form.
    marker : str
        Condition under which it is installed; empty = always.
    hashes : tuple of str
        SHA-256 of every archive of the release.
    needed_by : tuple of str
        Names of packages, `PROJECT` among them.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]


def normal(name: str) -> str:
    """A distribution's name in lower case with single hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(name: str) -> list[Locked]:
    """Packages of ``requirements.lock`` or ``torch.lock``."""
    text = (ROOT / name).read_text(encoding="utf-8")
    packages = []
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        head = block.partition("\n")[0].rstrip(" \\")
        pin, _, marker = head.partition(";")
        package, _, version = pin.strip().partition("==")
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
        via = [word for word in re.findall(r"^    # (?:via)? *(.*)$", block, re.MULTILINE) if word]
        needed_by = {normal(word.partition(" ")[0]) for word in via if not word.startswith("-c")}
        packages.append(
            Locked(normal(package), version, marker.strip(), tuple(sorted(hashes)), tuple(sorted(needed_by)))
        )
    return packages


def parts() -> dict[str, set[str]]:
    """Direct dependencies of each part of the project: ``core`` and the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"]}
    groups |= {extra: project["optional-dependencies"][extra] for extra in EXTRAS.split(",")}
    return {part: {normal(Requirement(line).name) for line in lines} for part, lines in groups.items()}


def part_of(packages: list[Locked]) -> dict[str, str]:
    """Part of the project that brings each package: ``core`` wins over extras, which are listed."""
    by_name = {package.name: package for package in packages}
    found: dict[str, list[str]] = {name: [] for name in by_name}
    for part, direct in parts().items():
        reached, waiting = set(), [name for name in direct if name in by_name]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += [package.name for package in packages if name in package.needed_by]
        for name in reached:
            found[name].append(part)
    return {name: "core" if "core" in listed else ", ".join(listed) for name, listed in found.items()}


def licence_of(name: str) -> str | None:
    """SPDX expression of an installed package, or what is stated of it; None where neither says."""
    if name in STATED:
        return STATED[name]
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    told: Any = found.metadata
    if told.get("License-Expression"):
        return str(told["License-Expression"])
    words = [str(told.get("License") or "").strip()]
    words += [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or [] if line.startswith("License ::")]
    for word in words:
        if word.lower() in SPDX or word in COMPATIBLE:
            return SPDX.get(word.lower(), word)
    return _bsd_clauses(found) if any("BSD" in word[:80] for word in words) else None


def _bsd_clauses(found: Any) -> str | None:
    """Which BSD licence a package is under, by the third clause of its text."""
    files = [file for file in found.files or () if re.search(r"licen[cs]e|copying", file.name, re.IGNORECASE)]
    texts = [str(found.metadata.get("License") or ""), *(file.read_text() for file in files if file.suffix != ".py")]
    for text in (" ".join((text or "").split()) for text in texts):
        if "Redistributions of source code must retain" in text:
            return "BSD-3-Clause" if re.search(r"(Neither|nor) the names? ", text) else "BSD-2-Clause"
    return None


def is_compatible(expression: str | None) -> bool:
    """Whether every licence of an SPDX expression, or one of each choice, is known to fit."""
    if not expression:
        return False
    return all(
        any(choice.strip(" ()") in COMPATIBLE for choice in part.split(" OR ")) for part in expression.split(" AND ")
    )
