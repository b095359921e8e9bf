"""A worker process that does what the model's name says, without loading anything."""

from __future__ import annotations

import os
import time
from pathlib import Path


def serve_jobs(link, scratch, threads, warm):
    """Stand in for `anymri.server.work.serve_jobs`."""
    link.send(("ready",))
    while True:
        try:
            task = link.recv()
        except EOFError:
            return
        if task["kind"] == "inspect":
            link.send(("done", {"dicom": False, "raw": False, "warnings": [], "sequences": []}))
            continue
        told = Path(scratch).parent / "told"
        if task["completion"] == "always":  # die at the first attempt, or at each
            if not told.exists():
                told.touch()
                os.kill(os.getpid(), 9)
        elif task["completion"] == "never":
            if "hang" in task["subset"]:
                time.sleep(600)
            ballast = bytearray(300_000_000)
            ballast[::4096] = b"x" * len(ballast[::4096])
            time.sleep(600)
        link.send(("done", {"files": [], "bytes": 7}))
