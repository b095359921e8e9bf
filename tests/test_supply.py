"""Supply chain: page of licences, bill of materials and audit agree with the locks; no network."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tool():
    """Modules of the folder of tools, which import each other."""
    before = set(sys.modules)
    sys.path.insert(0, str(ROOT / "tools"))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    yield load
    sys.path.remove(str(ROOT / "tools"))
    for name in {"set_up", "locked", "write_licences", "sbom", "audit"} - before:
        sys.modules.pop(name, None)


# -------------------------------------------------------------------------------------------------------- licences


def test_the_page_of_licences_is_current(tool):
    locked, writer = tool("locked"), tool("write_licences")
    packages = [*locked.read_lock("requirements.lock"), *locked.read_lock("torch.lock")]
    part = locked.part_of(packages)
    rows = [line for line in writer.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    shown = {line.split(" | ")[0][2:]: line for line in rows}
    expected = [package for package in packages if package.name == "torch" or not writer.is_cuda_package(package.name)]
    assert set(shown) == {package.name for package in expected}, "run tools/write_licences.py"
    for package in expected:
        try:
            here = version(package.name).partition("+")[0] == package.version
        except PackageNotFoundError:
            here = False
        if here:
            assert shown[package.name] == writer.row(package, part[package.name]), "run tools/write_licences.py"
        assert f"| {package.name} | {package.version} | " in shown[package.name]


def test_no_licence_is_unknown_and_each_that_does_not_fit_is_explained(tool):
    writer = tool("write_licences")
    text = writer.PAGE.read_text(encoding="utf-8")
    assert "unknown" not in text.partition("|---")[2]
    flagged = re.findall(r"^\| (\S+) \| \S+ \| \*\*", text, re.MULTILINE)
    assert flagged == ["codespell"]
    assert all(f"- **{name}**: {writer.NOTES[name]}" in text for name in flagged)
    assert not re.search(r"^\| \S+ \| \S+ \| \*\*[^|]* \| (core|classical|phantom|dicom|ray)", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("(Apache-2.0 OR GPL-2.0-only) AND ISC", True),
        ("GPL-2.0-only", False),
        ("MIT AND GPL-2.0-only", False),
        ("LGPL-2.1-or-later", False),
        (None, False),
    ],
)
def test_licences_that_fit(tool, expression, fits):
    assert tool("locked").is_compatible(expression) is fits


def test_what_asks_for_a_package_is_read_from_the_lock(tool):
    locked = tool("locked")
    by_name = {package.name: package for package in locked.read_lock("requirements.lock")}
    assert by_name["einops"].needed_by == ("anymri",)
    assert by_name["mdurl"].needed_by == ("markdown-it-py",)
    part = locked.part_of(list(by_name.values()))
    assert part["mdurl"] == "core"  # typer, rich, markdown-it-py
    assert part["ray"] == "ray"
    assert part["pluggy"] == "dev"


# ------------------------------------------------------------------------------------------------ bill of materials


def test_the_bill_of_materials_is_whole_and_always_the_same(tool, tmp_path):
    bill, locked = tool("sbom").bill(), tool("locked")
    packages = [*locked.read_lock("requirements.lock"), *locked.read_lock("torch.lock")]
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(set(references)) == len(references) == len(packages)
    for component, package in zip(bill["components"], packages, strict=True):
        assert {"type", "name", "version", "purl"} <= set(component)
        assert component["purl"] == f"pkg:pypi/{package.name}@{package.version}"
        hashes = component["externalReferences"][0]["hashes"]
        assert [entry["content"] for entry in hashes] == list(package.hashes)
        assert {entry["alg"] for entry in hashes} == {"SHA-256"}
    own = bill["metadata"]["component"]["bom-ref"]
    assert {entry["ref"] for entry in bill["dependencies"]} == {*references, own}
    assert all(set(entry["dependsOn"]) <= set(references) for entry in bill["dependencies"])
    direct = next(entry["dependsOn"] for entry in bill["dependencies"] if entry["ref"] == own)
    assert any(reference.startswith("pkg:pypi/torch@") for reference in direct)
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "sbom.py", "-o", tmp_path / "bill.json"], capture_output=True, check=True
    )
    assert b"packages" in done.stdout
    assert json.loads((tmp_path / "bill.json").read_text()) == bill


# ----------------------------------------------------------------------------------------------------------- audit


def advisory(name="numpy", **entry):
    return {
        "id": "PYSEC-1", "aliases": ["CVE-1"], "modified": "2026-01-02T03:04:05Z", "summary": "breaks",
        "affected": [{"package": {"ecosystem": "PyPI", "name": name}, **entry}],
    }  # fmt: skip


def span(*events):
    return {"ranges": [{"type": "ECOSYSTEM", "events": [dict([event]) for event in events]}]}


def audit(tool, tmp_path, *advisories, installed):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("README.md", "not an advisory")
        for number, content in enumerate(advisories):
            archive.writestr(f"{number}.json", json.dumps(content))
    return tool("audit").find(installed, tmp_path / "all.zip")


TRIED = "0.1a1 0.9 1.0 1.9 1.10 2.0rc1 2.0 2.0.5 2.1 3"


@pytest.mark.parametrize(
    ("entry", "affected"),
    [
        (span(("introduced", "0"), ("fixed", "2.0")), "0.1a1 0.9 1.0 1.9 1.10 2.0rc1"),
        (span(("introduced", "1.0"), ("last_affected", "1.9")), "1.0 1.9"),
        (span(("introduced", "0"), ("fixed", "1.0"), ("introduced", "2.0"), ("fixed", "2.1")), "0.1a1 0.9 2.0 2.0.5"),
        (span(("fixed", "2.0"), ("introduced", "1.9")), "1.9 1.10 2.0rc1"),
        (span(("introduced", "1.10")), "1.10 2.0rc1 2.0 2.0.5 2.1 3"),
        ({"versions": ["1.9.0", "not a version"]}, "1.9"),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, ""),
    ],
)
def test_versions_that_an_advisory_names(tool, entry, affected):
    assert [version for version in TRIED.split() if tool("audit").is_affected(version, entry)] == affected.split()


def test_an_affected_package_is_named_with_its_advisory(tool, tmp_path):
    found, count, newest = audit(
        tool, tmp_path,
        advisory("NumPy", **span(("introduced", "0"), ("fixed", "3"))),
        advisory("scipy", **span(("introduced", "0"), ("fixed", "1"))),
        advisory("absent", **span(("introduced", "0"))),
        {**advisory(**span(("introduced", "0"))), "id": "PYSEC-2", "withdrawn": "2026-01-01T00:00:00Z"},
        installed={"numpy": "2.4.6", "scipy": "1.17.1"},
    )  # fmt: skip
    assert found == ["numpy 2.4.6: PYSEC-1, CVE-1: breaks"]
    assert (count, newest) == (4, "2026-01-02")


def test_a_folder_of_yaml_is_read_too(tool, tmp_path):
    (tmp_path / "PYSEC-1.yaml").write_text(json.dumps(advisory(**span(("introduced", "0")))))
    assert tool("audit").find({"numpy": "2.4.6"}, tmp_path)[0]


def test_what_is_no_database_ends_in_one_line(tool, tmp_path, capsys):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.json").write_text("{")
    (tmp_path / "text.zip").write_text("hello")
    for path in (tmp_path / "damaged", tmp_path / "text.zip", tmp_path / "nowhere.zip"):
        with pytest.raises(SystemExit) as caught:
            tool("audit").find({"numpy": "1"}, path)
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("audit: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize(("numpy", "code"), [("0", 1), ("99999", 0)])
def test_the_command_tells_the_date_of_the_database(tmp_path, numpy, code):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a.json", json.dumps(advisory(**span(("introduced", numpy)))))
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "audit.py", tmp_path / "all.zip"], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "against 1 advisories, the newest of 2026-01-02" in done.stdout
