"""Write the software bill of materials: every package of the locks with hashes and licence, as CycloneDX 1.6 JSON.

``make sbom`` writes ``anymri.cdx.json``. The same locks give the same bytes: no clock time, and a serial number made
from the content. The hashes are those of all archives of a release, as the locks list them; which of them a machine
took depends on its system.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from pathlib import Path
from typing import Any

from locked import PROJECT, ROOT, Locked, read_lock

LICENCES = ROOT / "docs" / "reference" / "licences.md"


def purl(name: str, version: str) -> str:
    """Package URL, by which scanners know a package."""
    return f"pkg:pypi/{name}@{version}"


def listed_licences() -> dict[str, str]:
    """Licence of every package as on the page of licences, which does not depend on what is installed here."""
    rows = [line.split(" | ") for line in LICENCES.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[2].strip("*") for row in rows}


def component(package: Locked, licences: dict[str, str]) -> dict[str, Any]:
    """One package."""
    reference = purl(package.name, package.version)
    licence = licences.get(package.name)
    content: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": package.name,
        "version": package.version,
        "purl": reference,
        "externalReferences": [
            {
                "type": "distribution",
                "url": reference,
                "hashes": [{"alg": "SHA-256", "content": value} for value in package.hashes],
            }
        ],
    }
    if licence and licence != "unknown":
        content["licenses"] = [{"expression": licence}]
    if package.marker:
        content["properties"] = [{"name": "anymri:marker", "value": package.marker}]
    return content


def bill() -> dict[str, Any]:
    """The whole document."""
    packages = [*read_lock("requirements.lock"), *read_lock("torch.lock")]
    version: dict[str, str] = {}
    exec((ROOT / "src" / PROJECT / "version.py").read_text(encoding="utf-8"), version)
    own = purl(PROJECT, version["__version__"])
    references = {package.name: purl(package.name, package.version) for package in packages} | {PROJECT: own}
    licences = listed_licences()
    needs: dict[str, list[str]] = {name: [] for name in references}
    for package in packages:
        for name in package.needed_by:
            needs[name].append(references[package.name])
    content: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": PROJECT,
                "version": version["__version__"],
                "purl": own,
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": [component(package, licences) for package in packages],
        "dependencies": [{"ref": references[name], "dependsOn": sorted(needs[name])} for name in sorted(needs)],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {**content, "serialNumber": f"urn:uuid:{serial}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("anymri.cdx.json"))
    output = parser.parse_args().output
    content = bill()
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {output}: {len(content['components'])} packages\n")


if __name__ == "__main__":
    main()
