"""Write docs/reference/licences.md: licence and purpose of every package of the locks, from their own metadata.

Run it in the environment of ``make`` after ``make lock``; tests/test_supply.py holds the page against the locks and the
installed packages.
"""

from __future__ import annotations

import sys

from locked import PROJECT, ROOT, Locked, is_compatible, licence_of, part_of, read_lock
from set_up import is_cuda_package

PAGE = ROOT / "docs" / "reference" / "licences.md"
HEADER = """# Licences of dependencies

Written by `tools/write_licences.py` from `requirements.lock`, `torch.lock` and what the packages say of themselves; do
not edit. anymri itself is under Apache-2.0 and contains no code of these packages; they are installed beside it. *Part*
is `core` (installed with anymri) or the extra that brings the package; `dev` is for work on anymri only. Licences are
SPDX identifiers; one that is unknown or brings terms of its own is in bold, and said below.

| package | version | licence | part | why |
|---|---|---|---|---|
"""
#: What direct dependencies are used for.
WHY = {
    "axe-playwright-python": "tests of the page",
    "build": "makes the distribution", "codespell": "spelling", "dcm2niix": "tests compare DICOM conversion with it",
    "editables": "installing in place", "einops": "reshaping in transformers", "hatchling": "build backend",
    "hypothesis": "tests with drawn inputs", "import-linter": "directions of imports", "isal": "fast gzip",
    "jinja2": "pages", "joblib": "classical methods side by side", "lightning-fabric": "devices and precision",
    "matplotlib": "figures", "monai": "blocks of networks, reference metrics", "mypy": "types", "nibabel": "NIfTI",
    "nilearn": "tissue maps of phantoms", "numpy": "arrays", "pandas": "tables", "pre-commit": "checks on every commit",
    "playwright": "tests of the page",
    "pyarrow": "Parquet", "pydantic": "validation of settings", "pydicom": "DICOM", "pytest": "tests",
    "pytest-cov": "coverage of tests", "pytest-timeout": "tests end", "pytest-xdist": "tests side by side",
    "pyyaml": "settings files", "ray": "sweeps on many machines", "rich": "progress bars", "ruff": "style",
    "safetensors": "weights without pickle", "scikit-image": "reference metrics, filters", "scikit-learn": "trees",
    "scipy": "filters, distances, statistics", "simpleitk": "other image formats, registration", "torch": "networks",
    "typer": "command line", "types-pyyaml": "types of YAML",
}  # fmt: skip
#: What is meant by a licence in bold.
NOTES = {
    "codespell": "under the GPL: a program that checks spelling, run by developers, neither imported nor passed on",
}


def row(package: Locked, part: str) -> str:
    licence = licence_of(package.name)
    shown = licence if is_compatible(licence) else f"**{licence or 'unknown'}**"
    others = ", ".join(name for name in package.needed_by if name != PROJECT)
    why = WHY.get(package.name, f"needed by {others}")
    only = f" (only where {package.marker})" if package.marker else ""
    return f"| {package.name} | {package.version} | {shown} | {part} | {why}{only} |"


def page() -> str:
    """The page as Markdown."""
    packages = read_lock("requirements.lock")
    pytorch = read_lock("torch.lock")
    listed = sorted(
        [*packages, *(package for package in pytorch if package.name == "torch")], key=lambda package: package.name
    )
    part = part_of([*packages, *pytorch])
    flagged = [package.name for package in listed if not is_compatible(licence_of(package.name))]
    notes = [f"- **{name}**: {NOTES.get(name, 'unknown; ask before it is used further')}" for name in flagged]
    cuda = ", ".join(f"{package.name} {package.version}" for package in pytorch if is_cuda_package(package.name))
    return "\n".join(
        [
            HEADER + "\n".join(row(package, part[package.name]) for package in listed),
            "",
            "## In the package",
            "",
            "NiiVue 0.69.0 (`@niivue/niivue` of the npm registry, BSD-2-Clause; libraries inside it under MIT, ISC and",
            "Apache-2.0) draws the pictures in the page of `anymri serve`, without network. It is the one program of",
            "others in the package, unchanged, in `src/anymri/server/static/vendor/niivue`; `LICENSE.txt` there has",
            "all licences.",
            "",
            "## In bold",
            "",
            *(notes or ["Nothing."]),
            "",
            "## Only with a CUDA build of PyTorch",
            "",
            "Installed on machines with a GPU alone, at PyTorch's request, and not passed on with anymri. Triton is",
            "under MIT and cuda-pathfinder under Apache-2.0; **the others are NVIDIA's, under licences of its own**,",
            f"which whoever installs them accepts: {cuda}.",
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.name}\n")
