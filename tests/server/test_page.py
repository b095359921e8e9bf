"""The page of the server in a real browser: one study from drop to download, and its files without one.

The folder named by the variable PAGE_PICTURES gets a picture of every step.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anymri.phantom import PhantomSettings, generate

STATIC = Path(__file__).resolve().parents[2] / "src" / "anymri" / "server" / "static"
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
#: Longest that anything of the page may take, in milliseconds: predictions on a machine with much else to do.
PATIENCE_MS = 240_000
#: Sequences of the phantom by their ends, and the names they are dropped under; one name tells nothing.
DROPPED = {"t1n": "t1.nii.gz", "t1c": "t1c.nii.gz", "t2w": "scan.nii.gz", "t2f": "flair.nii.gz"}
LOOKS = [(1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")]
DROP = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
  }
  return transfer;
}"""


# ------------------------------------------------------------------------------------------------ the files


def script_texts() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(STATIC.glob("*.js"))}


def test_every_text_is_there_and_used():
    texts = json.loads((STATIC / "texts.en.json").read_text(encoding="utf-8"))
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    scripts = "\n".join(script_texts().values())
    plain = set(re.findall(r'data-(?:text|label)="([^"]+)"', page)) | set(re.findall(r'\btext\("([^"]+)"', scripts))
    starts = tuple(set(re.findall(r"`(\w+\.)\$\{", scripts)))
    assert plain <= set(texts)
    quoted = set(re.findall(r'"([\w.]+)"', scripts))
    assert [key for key in texts if key not in plain | quoted and not key.startswith(starts)] == []


def test_nothing_that_the_policy_forbids():
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", page)
    assert not re.search(r"https?:", page)
    for name, script in script_texts().items():
        found = re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|new Function|https?:|\"style\"", script)
        assert not found, name


def test_the_viewer_is_the_one_that_was_published():
    folder = STATIC / "vendor" / "niivue"
    told = re.search(r"SHA-256 ([0-9a-f]{64})", (folder / "LICENSE.txt").read_text(encoding="utf-8"))
    assert told is not None
    assert hashlib.sha256((folder / "niivue.umd.js").read_bytes()).hexdigest() == told[1]


# ---------------------------------------------------------------------------------------------- the browser


class Watched:
    """A browser's page; what it complains of and asks for is written down."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.add("/".join(request.url.split("/")[:3])))

    def picture(self, name: str) -> None:
        if folder := os.environ.get("PAGE_PICTURES"):
            self.page.wait_for_timeout(1500)  # the 3-D view is drawn a moment later
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def faults(self) -> list[str]:
        """Serious faults that axe-core finds."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page, options={"resultTypes": ["violations"]}).response["violations"]
        return [
            f"{fault['id']}: {node['target']}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    def in_every_look(self, name: str) -> None:
        """No serious fault and nothing that sticks out, wide and narrow, light and dark."""
        for width, scheme in LOOKS:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.emulate_media(color_scheme=scheme)
            assert self.faults() == [], (name, width, scheme)
            assert self.page.evaluate("document.documentElement.scrollWidth") <= width, name
            self.picture(f"{name}-{width}-{scheme}")
        self.page.set_viewport_size({"width": 1280, "height": 900})
        self.page.emulate_media(color_scheme="light")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("axe_playwright_python")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, args=FLAGS, accept_downloads=True,
            viewport={"width": 1280, "height": 900}, locale="en-GB",
        )  # fmt: skip
        yield Watched(context.pages[0])
        context.close()


@pytest.fixture
def address(watched: Watched, tmp_path: Path) -> Iterator[str]:
    """Server at a free port of this machine."""
    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(name)
    log, data = tmp_path / "log", tmp_path / "data"
    command = [sys.executable, "-m", "anymri.cli", "serve", "--data", data, "--port", "0", "--threads", "1"]
    with log.open("w", encoding="utf-8") as stream:
        server = subprocess.Popen(command, stderr=stream)
    try:
        told = None
        while told is None and server.poll() is None:
            time.sleep(0.1)
            told = re.search(r"http://\S+(?=/ )", log.read_text(encoding="utf-8"))
        assert told, log.read_text(encoding="utf-8")
        yield told[0]
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture
def phantom(watched: Watched, tmp_path: Path) -> Path:
    generate(tmp_path / "phantom", 1, 6, PhantomSettings(spacing_mm=4.0), progress=False)
    (study,) = (tmp_path / "phantom").glob("BraTS*")
    return study


def fetch(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read()


def drop(page: Any, study: Path) -> None:
    paths = {name: study / f"{study.name}-{end}.nii.gz" for end, name in DROPPED.items()}
    files = [[name, base64.b64encode(path.read_bytes()).decode()] for name, path in paths.items()]
    page.dispatch_event("#drop", "drop", {"dataTransfer": page.evaluate_handle(DROP, files)})


def places(page: Any) -> list[str]:
    """Millimetres under the cross of every view."""
    return [text.partition(" mm")[0] for text in page.locator(".place:visible").all_text_contents()]


def correct_the_label(watched: Watched) -> None:
    """The file whose name tells nothing is called what it is."""
    page = watched.page
    assert page.get_by_label("Use T2-weighted").count() == 0
    page.get_by_label("Sequence that scan.nii.gz is").select_option("t2")
    watched.picture("2-labels")
    page.get_by_role("button", name="Apply new labels").click()
    page.get_by_label("Use T2-weighted").wait_for()
    assert page.get_by_text("its name names no sequence").count() == 0


def run_by_keyboard(watched: Watched, address: str) -> None:
    """A run with all sequences; what the page shows of it is what the server answers."""
    page = watched.page
    page.locator("#go:enabled", has_text="Run with T1, T1c, T2 and FLAIR").focus()
    page.keyboard.press("Enter")
    page.get_by_role("progressbar", name="Running with").wait_for()
    watched.picture("3-running")
    row = page.locator("#volume-table tbody tr").first
    row.wait_for()
    study = re.search(r"study=(\w+)", page.url)
    assert study is not None
    found = json.loads(fetch(f"{address}/studies/{study[1]}"))["runs"][0]
    region = found["regions"][0]
    shown = row.locator("th, td").all_text_contents()
    assert [*shown[:2], shown[4]] == [region["name"], f"{region['volume_ml']:.1f}", region["words"]]
    assert page.locator("#panels .first, #panels .banner").first.text_content() == found["first_line"]
    page.locator("#place-0", has_text="mm").wait_for()
    watched.picture("4-result")


def compare_without_one(watched: Watched) -> None:
    """A run without one sequence stands beside the first; a key in one view moves the cross of both."""
    page = watched.page
    page.get_by_label("View").select_option("axial")
    page.get_by_label("Use T1-weighted, contrast-enhanced").uncheck()
    page.get_by_role("button", name="Run with T1, T2 and FLAIR").click()
    page.locator("#place-1", has_text="mm").wait_for()
    panels = page.locator("#panels .panel")
    assert panels.count() == 2
    assert "Without T1-weighted, contrast-enhanced" in panels.nth(1).text_content()
    page.locator("#panels[data-linked]").wait_for()
    before = places(page)
    page.locator("#canvas-0").focus()
    page.keyboard.press("Shift+ArrowUp")
    page.locator("#place-1").filter(has_not_text=before[1]).wait_for()
    after = places(page)
    assert after[0] == after[1] != before[0]
    assert before[0] == before[1]


@pytest.mark.slow
def test_a_study_from_drop_to_download(watched: Watched, address: str, phantom: Path, tmp_path: Path):
    page = watched.page
    page.goto(address)
    page.get_by_role("button", name="Choose a folder").wait_for()
    assert "research use only" in page.locator("header").text_content()
    watched.in_every_look("1-start")
    drop(page, phantom)
    page.locator(".badge.usable").first.wait_for()
    assert page.locator("#sequences .card").count() == 4
    if not os.environ.get("PAGE_PICTURES"):
        page.get_by_label("View").select_option("axial")  # 3-D is dear without a graphics card
    correct_the_label(watched)
    run_by_keyboard(watched, address)
    compare_without_one(watched)
    page.get_by_label("Uncertainty", exact=True).check()
    if os.environ.get("PAGE_PICTURES"):
        page.get_by_label("View").select_option("all")
    watched.in_every_look("5-compare")

    after = page.locator("#after article").first
    link = after.get_by_role("link", name="Segmentation (NIfTI)")
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "segmentation.nii.gz")
    assert fetch(f"{address}{link.get_attribute('href')}") == (tmp_path / "segmentation.nii.gz").read_bytes()
    report = after.get_by_role("link", name="Report").get_attribute("href")
    assert b"anymri study report" in fetch(f"{address}{report}")

    page.get_by_role("button", name="Remove this study now").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("button", name="Choose files").wait_for()
    assert json.loads(fetch(f"{address}/studies")) == {"studies": []}
    assert watched.complaints == []
    assert {place for place in watched.asked if not place.startswith(("data:", "blob:"))} == {address}
