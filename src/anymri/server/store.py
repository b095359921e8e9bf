"""Store of studies, runs and jobs: one SQLite database (WAL), every change one transaction.

A job is claimed by changing its status, and ended by a change that holds only while it is still claimed by the same
attempt; so none ends twice, whatever is killed in between.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from anymri.errors import UserError

__all__ = ["Busy", "Full", "Job", "Store"]

#: Version of the tables.
TABLES_VERSION = 1
#: How long to wait for another program that has the database locked, in seconds.
PATIENCE_S = 5.0
#: Attempts of a job whose worker died, and how often a job may be cut off by the end of the server.
ATTEMPTS, INTERRUPTIONS = 2, 20
#: Jobs whose time is averaged for estimates.
RECENT = 10

_TABLES = """
CREATE TABLE IF NOT EXISTS studies(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, key TEXT,
  created REAL NOT NULL, expires REAL NOT NULL, bytes INTEGER NOT NULL, upload TEXT NOT NULL, inspected TEXT,
  receiving INTEGER NOT NULL DEFAULT 0, uid TEXT, UNIQUE(owner, key));
CREATE TABLE IF NOT EXISTS runs(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
  study TEXT NOT NULL REFERENCES studies(id) ON DELETE CASCADE,
  created REAL NOT NULL, request TEXT NOT NULL, summary TEXT, sent TEXT);
CREATE TABLE IF NOT EXISTS jobs(
  number INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL REFERENCES studies(id) ON DELETE CASCADE,
  run TEXT REFERENCES runs(id) ON DELETE CASCADE, kind TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'queued',
  attempts INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0, error TEXT, seconds REAL, class TEXT);
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs(status, kind, number);
CREATE INDEX IF NOT EXISTS jobs_of_study ON jobs(study);
CREATE INDEX IF NOT EXISTS runs_of_study ON runs(study);
"""

_WAITING = "SELECT count(DISTINCT study) AS n FROM jobs WHERE status = 'queued' AND kind != 'send'"


class Busy(Exception):
    """The database cannot be used just now: another program has it locked, or the disk is full."""


class Full(Exception):
    """Too many studies are waiting."""


class Job(NamedTuple):
    """A claimed job.

    Attributes
    ----------
    number, attempt : int
    kind : {"inspect", "run", "send"}
    study : str
    run : str or None
    """

    number: int
    attempt: int
    kind: str
    study: str
    run: str | None


class Store:
    """The database of a data folder; safe to call from several threads.

    Parameters
    ----------
    path : Path

    Raises
    ------
    UserError
        If it is of a newer version, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            self._link = sqlite3.connect(path, timeout=PATIENCE_S, check_same_thread=False, isolation_level=None)
            self._link.row_factory = sqlite3.Row
            for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._link.execute(f"PRAGMA {setting}")
            version = self._link.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, TABLES_VERSION):
                raise UserError(f"{path}: was made by another version of anymri; give another --data folder")
            self._link.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {TABLES_VERSION}; COMMIT;")
        except sqlite3.OperationalError as error:
            raise UserError(f"{path}: cannot be opened ({error}); end the program that uses it") from None
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path}: is damaged ({error}); move the data folder aside") from None

    def close(self) -> None:
        """Write everything into the one file and close it."""
        with self._lock:
            self._link.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction; nothing of it is left where the block raises."""
        with self._lock:
            try:
                self._link.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise Busy(str(error)) from None
            try:
                yield self._link
                self._link.execute("COMMIT")
            except BaseException as error:
                if self._link.in_transaction:
                    self._link.rollback()
                if isinstance(error, sqlite3.OperationalError):
                    raise Busy(str(error)) from None
                raise

    def _rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with self._lock:
            try:
                return [dict(row) for row in self._link.execute(query, values)]
            except sqlite3.OperationalError as error:
                raise Busy(str(error)) from None

    # ------------------------------------------------------------------------------------------------ studies

    def add_study(
        self, study: str, owner: str, upload: dict[str, Any], *, size: int, keep_s: float, key: str | None = None,
        receiving: bool = False, uid: str | None = None, request: dict[str, Any] | None = None, run: str | None = None,
        most_waiting: int | None = None,
    ) -> None:  # fmt: skip
        """Write a new study down with its jobs: to look at it and, with a request, to run it.

        Raises
        ------
        Full
            If so many studies are waiting.
        """
        now = time.time()
        values = (study, owner, key, now, now + keep_s, size, json.dumps(upload), int(receiving), uid)
        with self._change() as change:
            self._check_waiting(change, most_waiting)
            change.execute(
                "INSERT INTO studies(id, owner, key, created, expires, bytes, upload, receiving, uid) "
                "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", values,
            )  # fmt: skip
            change.execute("INSERT INTO jobs(study, kind) VALUES(?, 'inspect')", (study,))
            if run is not None:
                self._insert_run(change, study, run, request or {}, now)

    def add_run(self, study: str, run: str, request: dict[str, Any], most_waiting: int) -> bool:
        """Write a new run of a study down; False if the study is gone.

        Raises
        ------
        Full
            If so many studies are waiting.
        """
        with self._change() as change:
            if not change.execute("SELECT 1 FROM studies WHERE id = ?", (study,)).fetchone():
                return False
            self._check_waiting(change, most_waiting)
            self._insert_run(change, study, run, request, time.time())
        return True

    def _check_waiting(self, change: sqlite3.Connection, most: int | None) -> None:
        if most is not None and change.execute(_WAITING).fetchone()["n"] >= most:
            raise Full

    def _insert_run(
        self, change: sqlite3.Connection, study: str, run: str, request: dict[str, Any], now: float
    ) -> None:
        change.execute(
            "INSERT INTO runs(id, study, created, request) VALUES(?, ?, ?, ?)", (run, study, now, json.dumps(request))
        )
        change.execute("INSERT INTO jobs(study, run, kind) VALUES(?, ?, 'run')", (study, run))

    def add_instances(self, study: str, size: int, count: int) -> None:
        """Count what came by DICOMweb to a study that is still open."""
        with self._change() as change:
            upload = change.execute("SELECT upload FROM studies WHERE id = ?", (study,)).fetchone()
            if upload is None:
                return
            told = json.loads(upload[0])
            told["files"] = told.get("files", 0) + count
            change.execute(
                "UPDATE studies SET bytes = bytes + ?, upload = ? WHERE id = ?", (size, json.dumps(told), study)
            )

    def close_receiving(self, study: str) -> None:
        """No more instances will come: its jobs may begin."""
        with self._change() as change:
            change.execute("UPDATE studies SET receiving = 0 WHERE id = ?", (study,))

    def relabel(self, study: str, upload: dict[str, Any]) -> None:
        """Write corrected labels down; the study is to be looked at again."""
        with self._change() as change:
            if change.execute("UPDATE studies SET upload = ? WHERE id = ?", (json.dumps(upload), study)).rowcount:
                change.execute("INSERT INTO jobs(study, kind) VALUES(?, 'inspect')", (study,))

    def remove(self, study: str) -> None:
        """Forget a study with its runs and jobs."""
        with self._change() as change:
            change.execute("DELETE FROM studies WHERE id = ?", (study,))

    def study(self, study: str, owner: str | None = None) -> dict[str, Any] | None:
        """A study with its runs and jobs; None if there is none, or it is another owner's.

        Parameters
        ----------
        study : str
        owner : str or None, default=None
            None = whoever's.
        """
        rows = self._rows("SELECT * FROM studies WHERE id = ?", study)
        if not rows or (owner is not None and rows[0]["owner"] != owner):
            return None
        return self._whole(rows)[0]

    def studies(self, owner: str, most: int) -> list[dict[str, Any]]:
        """Studies of an owner, the newest first."""
        return self._whole(
            self._rows("SELECT * FROM studies WHERE owner = ? ORDER BY number DESC LIMIT ?", owner, most)
        )

    def _whole(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Studies with what belongs to them."""
        for row in rows:
            row["upload"] = json.loads(row["upload"])
            row["inspected"] = json.loads(row["inspected"]) if row["inspected"] else None
            row["jobs"] = self._rows("SELECT * FROM jobs WHERE study = ? ORDER BY number", row["id"])
            row["runs"] = self._rows("SELECT * FROM runs WHERE study = ? ORDER BY number", row["id"])
            for run in row["runs"]:
                run["request"] = json.loads(run["request"])
                run["summary"] = json.loads(run["summary"]) if run["summary"] else None
        return rows

    def by_key(self, owner: str, key: str) -> str | None:
        """Study that an owner sent with this key before."""
        rows = self._rows("SELECT id FROM studies WHERE owner = ? AND key = ?", owner, key)
        return rows[0]["id"] if rows else None

    def receiving(self, owner: str | None = None, uid: str | None = None) -> list[str]:
        """Studies that are still open, of one owner and identifier or all."""
        if uid is None:
            return [row["id"] for row in self._rows("SELECT id FROM studies WHERE receiving = 1")]
        rows = self._rows("SELECT id FROM studies WHERE receiving = 1 AND owner = ? AND uid = ?", owner, uid)
        return [row["id"] for row in rows]

    def expired(self) -> list[str]:
        """Studies whose time is over."""
        return [row["id"] for row in self._rows("SELECT id FROM studies WHERE expires < ?", time.time())]

    def known(self) -> set[str]:
        """All studies."""
        return {row["id"] for row in self._rows("SELECT id FROM studies")}

    # --------------------------------------------------------------------------------------------------- jobs

    def claim(self, *kinds: str) -> Job | None:
        """Take the next job that can begin: studies are looked at before they are run; None if there is none."""
        marks = ", ".join("?" * len(kinds))
        query = f"""SELECT j.* FROM jobs j JOIN studies s ON s.id = j.study
            WHERE j.status = 'queued' AND j.kind IN ({marks}) AND s.receiving = 0 AND NOT EXISTS(
              SELECT 1 FROM jobs o WHERE o.study = j.study AND o.status IN ('queued', 'running')
              AND ((o.kind = 'inspect' AND j.kind != 'inspect') OR (o.status = 'running' AND o.number < j.number)))
            ORDER BY j.number LIMIT 1"""
        if not self._rows(query, *kinds):  # most of the time, without a transaction
            return None
        with self._change() as change:
            row = change.execute(query, kinds).fetchone()
            if row is None:
                return None
            change.execute(
                "UPDATE jobs SET status = 'running', attempts = attempts + 1 WHERE number = ?", (row["number"],)
            )
            return Job(row["number"], row["attempts"] + 1, row["kind"], row["study"], row["run"])

    def finish(self, job: Job, error: str | None, *, seconds: float, kind: str, found: dict[str, Any] | None) -> bool:
        """End a job, once.

        Parameters
        ----------
        job : Job
        error : str or None
            Why it failed; None = it is done.
        seconds : float
        kind : str
            Class of jobs that take as long.
        found : dict or None
            Of a look at the study, what was found; of a run its summary.

        Returns
        -------
        bool
            False if it is gone, or has ended before.
        """
        status = "done" if error is None else "failed"
        with self._change() as change:
            ended = change.execute(
                "UPDATE jobs SET status = ?, error = ?, seconds = ?, class = ? "
                "WHERE number = ? AND status = 'running' AND attempts = ?",
                (status, error, seconds, kind, job.number, job.attempt),
            ).rowcount
            if not ended:
                return False
            if job.kind == "inspect" and found is not None:
                change.execute("UPDATE studies SET inspected = ? WHERE id = ?", (json.dumps(found), job.study))
            if job.kind == "inspect" and error is not None:
                self._fail_waiting(change, job.study, error)
            if job.kind == "run" and found is not None:
                size = int(found.get("bytes", 0))
                change.execute("UPDATE runs SET summary = ? WHERE id = ?", (json.dumps(found), job.run))
                change.execute("UPDATE studies SET bytes = bytes + ? WHERE id = ?", (size, job.study))
            if job.kind == "send":
                sent = "sent" if error is None else "failed"
                change.execute("UPDATE runs SET sent = ? WHERE id = ?", (sent, job.run))
        return True

    def _fail_waiting(self, change: sqlite3.Connection, study: str, error: str) -> None:
        """A study that cannot be read is not run."""
        change.execute(
            "UPDATE jobs SET status = 'failed', error = ? WHERE study = ? AND kind = 'run' AND status = 'queued'",
            (error, study),
        )

    def queue_sending(self, study: str, run: str) -> None:
        """Write down that a result is to be sent on."""
        with self._change() as change:
            if change.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone():
                change.execute("UPDATE runs SET sent = 'pending' WHERE id = ?", (run,))
                change.execute("INSERT INTO jobs(study, run, kind) VALUES(?, ?, 'send')", (study, run))

    def give_back(self, job: Job, error: str) -> bool:
        """Queue a job again whose worker died, or fail it for good at the last attempt; True if it waits again."""
        if job.attempt >= ATTEMPTS:
            self.finish(job, error, seconds=0.0, kind="", found=None)
            return False
        with self._change() as change:
            change.execute(
                "UPDATE jobs SET status = 'queued', error = ? WHERE number = ? AND status = 'running'",
                (error, job.number),
            )
        return True

    def take_up(self) -> int:
        """Queue what was under way when the server ended, however it ended; the number of such jobs.

        The attempt does not count, as it was not the job's fault; one that is cut off each time fails in the end.
        """
        with self._change() as change:
            cut_off = change.execute("SELECT count(*) FROM jobs WHERE status = 'running'").fetchone()[0]
            change.execute(
                "UPDATE jobs SET status = 'failed', error = 'study: the server ended each time while it was under way; "
                "look into its log, and send the study again' WHERE status = 'running' AND interruptions >= ?",
                (INTERRUPTIONS,),
            )
            change.execute(
                "UPDATE jobs SET status = 'queued', attempts = attempts - 1, interruptions = interruptions + 1 "
                "WHERE status = 'running'"
            )
        return int(cut_off)

    def waiting(self) -> int:
        """Studies with a job that has not begun, but for sending."""
        return int(self._rows(_WAITING)[0]["n"])

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of jobs by kind and status."""
        rows = self._rows("SELECT kind, status, count(*) AS n FROM jobs GROUP BY kind, status")
        return {(row["kind"], row["status"]): row["n"] for row in rows}

    def used_bytes(self) -> int:
        """Bytes of all studies and their results."""
        return int(self._rows("SELECT coalesce(sum(bytes), 0) AS n FROM studies")[0]["n"])

    def usual_seconds(self, kind: str) -> float | None:
        """Mean time of the last jobs of a class; None if there was none."""
        rows = self._rows(
            "SELECT seconds FROM jobs WHERE status = 'done' AND class = ? ORDER BY number DESC LIMIT ?", kind, RECENT
        )
        return sum(row["seconds"] for row in rows) / len(rows) if rows else None
