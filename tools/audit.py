"""Compare the installed packages with a database of advisories that was downloaded before; uses no network.

    make audit ADVISORIES=all.zip

The file is an export of advisories in the OSV format (https://ossf.github.io/osv-schema/): a zip or a folder of JSON
files, such as the export for PyPI of https://osv.dev, or a clone of PyPI's advisory database, whose files are YAML.
What is found is as new as the file: its newest advisory's date is told. Exit code 1 if a package is affected, 2 if the
file cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NoReturn

import yaml
from locked import normal
from packaging.version import InvalidVersion, Version

#: Bytes of one advisory, and of all of them unpacked.
MOST_BYTES, MOST_IN_ALL = 10 * 2**20, 4 * 2**30


def stop(message: str) -> NoReturn:
    print(f"audit: {message}", file=sys.stderr)
    raise SystemExit(2)


def read_advisories(path: Path) -> Iterator[dict[str, Any]]:
    """Advisories of a zip or a folder; what is none, such as a read-me, is passed over."""
    total = 0
    for name, size, read in _entries(path):
        total += size
        if size > MOST_BYTES or total > MOST_IN_ALL:
            stop(f"{path}: {name} is larger than advisories are; download the database again")
        try:
            content = json.loads(read()) if name.endswith(".json") else yaml.safe_load(read())
        except (ValueError, RecursionError, yaml.YAMLError, zipfile.BadZipFile):
            stop(f"{path}: {name} is damaged; download the database again")
        if isinstance(content, dict) and isinstance(content.get("affected"), list) and "id" in content:
            yield content


def _entries(path: Path) -> Iterator[tuple[str, int, Any]]:
    endings = (".json", ".yaml", ".yml")
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in endings and file.is_file():
                yield file.name, file.stat().st_size, file.read_bytes
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(endings):
                    yield entry.filename, entry.file_size, lambda entry=entry: archive.read(entry)
    except (OSError, zipfile.BadZipFile) as error:
        stop(f"{path}: is no zip or folder of advisories ({error}); download the database again")


def is_affected(version: str, entry: dict[str, Any]) -> bool:
    """Whether a version is one of those that an advisory's entry of a package names."""
    installed = Version(version)
    if any(_version(text) == installed for text in entry.get("versions") or ()):
        return True
    for span in entry.get("ranges") or ():
        if span.get("type") == "ECOSYSTEM" and _within(installed, span.get("events") or []):
            return True
    return False


def _within(installed: Version, events: list[dict[str, str]]) -> bool:
    """Whether the last event at or before the version began the fault; the events need not be in order."""
    points = []
    for event in events:
        for kind, text in event.items():
            version = Version("0.dev0") if text == "0" else _version(text)
            if version is not None and kind in ("introduced", "fixed", "last_affected"):
                points.append((version, kind))
    affected = False
    for version, kind in sorted(points, key=lambda point: point[0]):
        if version < installed or (version == installed and kind != "last_affected"):
            affected = kind == "introduced"
    return affected


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def find(installed: dict[str, str], path: Path) -> tuple[list[str], int, str]:
    """Lines about affected packages, number of advisories, and date of the newest."""
    found, count, newest = [], 0, ""
    for advisory in read_advisories(path):
        count += 1
        newest = max(newest, str(advisory.get("modified") or advisory.get("published") or ""))
        if advisory.get("withdrawn"):
            continue
        for entry in advisory["affected"]:
            package = entry.get("package") or {}
            name = normal(str(package.get("name")))
            if package.get("ecosystem") != "PyPI" or name not in installed or not is_affected(installed[name], entry):
                continue
            names = ", ".join([str(advisory["id"]), *map(str, advisory.get("aliases") or ())])
            what = " ".join(str(advisory.get("summary") or advisory.get("details") or "").split())[:100]
            found.append(f"{name} {installed[name]}: {names}: {what}")
            break
    return sorted(set(found)), count, newest[:10] or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("advisories", help="zip or folder of advisories in the OSV format")
    given = parser.parse_args().advisories
    if not given:
        stop("name a database that was downloaded before: make audit ADVISORIES=all.zip (see SECURITY.md)")
    installed = {normal(one.name): one.version for one in distributions() if _version(one.version)}
    found, count, newest = find(installed, Path(given))
    if not count:
        stop(f"{given}: holds no advisory in the OSV format; download the database again")
    for line in found:
        print(line)
    print(
        f"audit: {len(installed)} installed packages against {count:,} advisories, the newest of {newest}: "
        f"{len(found)} found; what became known later is not in this file"
    )
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
