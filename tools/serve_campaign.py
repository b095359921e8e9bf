"""Campaigns against a running server: real studies, load, kills, hostile requests, its own OpenAPI document.

Each starts `anymri serve` in a process of its own on loopback, with a data folder that is removed afterwards, and
prints its figures; exit code 1 where one of them is wrong. Images are phantoms of 8 mm, so that the queue is what is
looked at.

    .venv/bin/python tools/serve_campaign.py load --uploads 200 --clients 20
    .venv/bin/python tools/serve_campaign.py kills --times 30
    .venv/bin/python tools/serve_campaign.py hostile
    .venv/bin/python tools/serve_campaign.py equal STUDY
    .venv/bin/python tools/serve_campaign.py schema          (needs schemathesis)
    .venv/bin/python tools/serve_campaign.py disk            (needs to mount a small disk)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "server")]

#: Statuses after which nothing changes any more.
ENDED = ("done", "failed", "ready")


class Server:
    """A server in a process of its own.

    Parameters
    ----------
    folder : Path
    options : list of str
        Of `anymri serve`.
    """

    def __init__(self, folder: Path, options: list[str]) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.folder, self.options = folder, options
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> float:
        """Start it; the seconds until it takes work."""
        begun = time.monotonic()
        command = [sys.executable, "-m", "anymri.cli", "serve", "--data", str(self.folder), "--port", str(self.port)]
        log = (self.folder.parent / "log").open("ab")
        self.process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        while time.monotonic() - begun < 300:
            try:
                if self.client.get("/ready" if ready else "/health").status_code == 200:
                    return time.monotonic() - begun
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise SystemExit((self.folder.parent / "log").read_text(encoding="utf-8")[-2000:])

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()

    def memory_mb(self) -> float:
        """Resident memory of the server itself, in MB."""
        assert self.process is not None
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def studies(self) -> list[dict[str, Any]]:
        """All studies."""
        return list(self.client.get("/studies?limit=500").json()["studies"])

    def wait(self, seconds: float) -> list[dict[str, Any]]:
        """Wait until every study has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rows = self.studies()
            if all(row["status"] in ENDED for row in rows):
                return rows
            time.sleep(1.0)
        return self.studies()


@contextmanager
def server(*options: str, start: bool = True) -> Iterator[Server]:
    """A server on a new data folder."""
    place = Path(tempfile.mkdtemp(prefix="anymri-campaign-"))
    one = Server(place / "data", list(options))
    try:
        if start:
            print(f"cold start to ready: {one.start():.1f} s")
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.end(signal.SIGKILL)
        shutil.rmtree(place, ignore_errors=True)


def phantom_image() -> bytes:
    """A T1 of 8 mm, as a file."""
    from serving import write_phantom

    with tempfile.TemporaryDirectory() as folder:
        return (write_phantom(Path(folder)) / "t1.nii.gz").read_bytes()


def load(uploads: int, clients: int) -> bool:
    """Many uploads at a time: none lost, none twice, the limit kept, status calls quick."""
    image, answers, status_s, lock = phantom_image(), Counter[int](), list[float](), threading.Lock()
    accepted: list[str] = []
    with server("--waiting", "40") as one:
        before = one.memory_mb()

        def send(number: int) -> None:
            with httpx.Client(base_url=one.client.base_url, timeout=120) as client:
                for turn in range(uploads // clients):
                    key = {"Idempotency-Key": f"{number}-{turn}"}
                    while True:
                        answer = client.post(
                            "/studies", files={"t1": ("t1.nii.gz", image)}, data={"run": "false"}, headers=key
                        )  # fmt: skip
                        with lock:
                            answers[answer.status_code] += 1
                        if answer.status_code != 429:
                            break
                        time.sleep(min(2.0, float(answer.headers["retry-after"])))
                    begun = time.monotonic()
                    client.get(answer.json()["links"]["self"])
                    with lock:
                        accepted.append(answer.json()["id"])
                        status_s.append(time.monotonic() - begun)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(clients)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begun
        rows = one.wait(900)
        ends = Counter(row["status"] for row in rows)
        after = one.memory_mb()
        print(f"{uploads} uploads by {clients} clients in {seconds:.0f} s; answers {dict(answers)}; ends {dict(ends)}")
        print(f"status calls under load: median {np.median(status_s):.3f} s, p95 {np.quantile(status_s, 0.95):.3f} s")
        print(f"memory of the server: {before:.0f} MB before, {after:.0f} MB after")
        whole = {row["id"] for row in rows} == set(accepted) and len(set(accepted)) == uploads
        return whole and ends == {"ready": uploads} and set(answers) <= {202, 429} and after < before + 300


def kills(times: int, longest_s: float) -> bool:
    """SIGKILL of the server at random times, mid-upload and mid-job: what was accepted ends once."""
    image, draw, accepted = phantom_image(), random.Random(0), set[str]()
    with server("--waiting", "1000") as one:
        killed = 0
        for number in range(times):
            stop = threading.Event()

            def send(stop: threading.Event = stop) -> None:
                with httpx.Client(base_url=one.client.base_url, timeout=20) as client:
                    while not stop.is_set():
                        try:
                            answer = client.post("/studies", files={"t1": ("t1.nii.gz", image)}, data={"run": "false"})
                        except httpx.TransportError:
                            return
                        if answer.status_code == 202:
                            accepted.add(answer.json()["id"])

            thread = threading.Thread(target=send)
            thread.start()
            time.sleep(draw.uniform(0.02, longest_s))
            one.end(signal.SIGKILL)
            stop.set()
            thread.join()
            killed += 1
            one.start(ready=number % 5 == 4)
        rows = one.wait(1800)
        ends = Counter(row["status"] for row in rows)
        known = {row["id"] for row in rows}
        folders = {path.name for path in (one.folder / "studies").iterdir()}
        incoming = list((one.folder / "incoming").iterdir())
        print(f"{killed} kills; {len(accepted)} studies accepted, {len(rows)} known, ends {dict(ends)}")
        print(f"lost {len(accepted - known)}; folders of no study {len(folders - known)}; half-written {len(incoming)}")
        enough = len(accepted) >= times  # on a slow machine raise --longest
        return enough and not accepted - known and folders == known and not incoming and set(ends) <= {"ready"}


def hostile() -> bool:
    """Hostile requests over a real connection, and what only a socket can do."""
    from hostile import hostile_requests

    image = phantom_image()
    with server("--upload", "0.02") as one:
        sent = one.client.post("/studies", files={"t1": ("t1.nii.gz", image)}).json()
        tries = hostile_requests(image, sent["id"], sent["run"], 20_000, 600_000_000)
        before, wrong, codes = one.memory_mb(), [], Counter[int]()
        for request in tries:
            try:
                answer = one.client.request(request.method, request.path, **request.options)
            except (httpx.TransportError, UnicodeError) as error:  # refused before or while it was sent
                print(f"  {request.name}: {type(error).__name__}")
                codes[0] += 1
                continue
            codes[answer.status_code] += 1
            if not 400 <= answer.status_code < 500:
                wrong.append((request.name, answer.status_code, answer.text[:100]))
        raw = {
            "header injection": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\nBad Name: x\r\n\r\n",
            "no host": b"GET /studies HTTP/1.1\r\n\r\n",
            "two hosts": b"GET /studies HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            "two lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "length and chunks": b"POST /studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            "64 KB of path": b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "64 KB of header": b"GET /studies HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 65536 + b"\r\n\r\n",
            "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "absolute elsewhere": b"GET http://evil.example/studies HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        }
        for name, content in raw.items():
            with socket.create_connection(("127.0.0.1", one.port), timeout=20) as link:
                link.sendall(content)
                first = link.recv(200).split(b"\r\n")[0]
            code = int(first.split()[1]) if first.startswith(b"HTTP/1.1 ") else 0
            codes[code] += 1
            if not 400 <= code < 500 and code != 0:
                wrong.append((name, code, first.decode("latin-1")))
        ranged = one.client.get(sent["links"]["self"], headers={"range": "bytes=" + ",".join(["0-0"] * 5000)})
        after, alive = one.memory_mb(), one.client.get("/health").status_code
        print(f"{len(tries) + len(raw)} requests; codes {dict(sorted(codes.items()))}; not refused: {wrong}")
        print(f"ranges: {ranged.status_code}; memory {before:.0f} MB before, {after:.0f} MB after; alive: {alive}")
        outside = [path for path in one.folder.parent.iterdir() if path.name not in ("data", "log")]
        outside = [path for path in outside if not path.name.startswith(".")]
        kept = [path.name for path in (one.folder / "studies").iterdir()]
        print(f"written outside of the data folder: {outside}; studies kept: {len(kept)}")
        return not wrong and alive == 200 and not outside and kept == [sent["id"]] and after < before + 400


def equal(study: Path) -> bool:
    """A real study over HTTP and by the command: the same bytes."""
    files = [path for path in sorted(study.rglob("*")) if path.is_file() and not path.name.startswith("seg.")]
    with server("--threads", "1", "--upload", "4") as one, tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        sent = [("files", (f"{study.name}/{path.relative_to(study)}", path.read_bytes())) for path in files]
        answer = one.client.post("/studies", files=sent)
        print(f"upload of {len(files)} files: {answer.status_code} after {time.monotonic() - begun:.1f} s")
        rows = one.wait(3600)
        print(f"status {rows[0]['status']} {rows[0]['error'] or ''} after {time.monotonic() - begun:.1f} s")
        if rows[0]["status"] != "done":
            return False
        print(rows[0]["runs"][0]["first_line"])
        theirs = {
            one_file["name"]: one.client.get(one_file["href"]).content for one_file in rows[0]["runs"][0]["files"]
        }
        one.end()
        copy = Path(folder) / study.name
        shutil.copytree(study, copy, ignore=shutil.ignore_patterns("seg.*"))
        command = [
            sys.executable,
            "-m",
            "anymri.cli",
            "predict",
            str(copy),
            "--save-probabilities",
            "--threads",
            "1",
            "-q",
        ]
        out = Path(folder) / "out"
        subprocess.run([*command, "-o", str(out)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        mine = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        differ = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        print(f"{len(mine)} files of the command, {len(theirs)} of the server; different: {differ}")
        return not differ


def schema(examples: int) -> bool:
    """Requests made from the OpenAPI document: no 5xx."""
    with server("--upload", "0.01", "--waiting", "5") as one:
        place = f"http://127.0.0.1:{one.port}/openapi.json"
        command = ["schemathesis", "run", place, "--checks", "not_a_server_error", "--max-examples", str(examples)]
        done = subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=False)
        return done.returncode == 0


def disk() -> bool:
    """A disk of 40 MB that fills up: a clear answer, the server alive, what was there intact."""
    image = phantom_image()
    place = Path(tempfile.mkdtemp(prefix="anymri-campaign-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)], check=True)
    one = Server(place / "data", [])
    try:
        one.start()
        noise = np.random.default_rng(0).bytes(60_000_000)
        first = one.client.post("/studies", files={"t1": ("t1.nii.gz", image)})
        print(f"with the disk nearly full by its own reserve: {first.status_code} {first.text[:120]}")
        large = one.client.post("/studies", files={"t1": ("t1.nii.gz", image[:2] + noise)})
        alive = one.client.get("/health").status_code
        print(f"larger than the disk: {large.status_code} {large.text[:120]}; alive: {alive}")
        return first.status_code == large.status_code == 507
    finally:
        if one.process is not None:
            one.end(signal.SIGKILL)
        subprocess.run(["umount", "-l", str(place)], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=["load", "kills", "hostile", "equal", "schema", "disk"])
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds before a kill, at most")
    parser.add_argument("--examples", type=int, default=20)
    chosen = parser.parse_args()
    campaigns: dict[str, Any] = {
        "load": lambda: load(chosen.uploads, chosen.clients), "kills": lambda: kills(chosen.times, chosen.longest),
        "hostile": hostile,
        "equal": lambda: equal(chosen.study), "schema": lambda: schema(chosen.examples), "disk": disk,
    }  # fmt: skip
    good = campaigns[chosen.campaign]()
    print(json.dumps({"campaign": chosen.campaign, "good": bool(good)}))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
