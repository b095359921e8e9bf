"""Metrics for Prometheus: requests, jobs, the queue and the disk; numbers alone, nothing of a study."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from anymri.server.store import Store

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_JOB_SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class Metrics:
    """Metrics of one server.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "anymri_requests", "Requests by route and code.", ["method", "route", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "anymri_request_seconds", "Time of requests.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._jobs = Counter("anymri_jobs", "Jobs by kind and end.", ["kind", "end"], registry=self.registry)
        self._job_seconds = Histogram(
            "anymri_job_seconds", "Time of jobs that ended.", ["kind"], buckets=_JOB_SECONDS, registry=self.registry
        )
        self._waiting = Gauge(
            "anymri_jobs_in_store", "Jobs by kind and status.", ["kind", "status"], registry=self.registry
        )
        self._bytes = Gauge("anymri_stored_bytes", "Bytes of all studies and results.", registry=self.registry)

    def request(self, method: str, route: str, code: int, seconds: float) -> None:
        """Count a request; the route is a template, never what was asked for."""
        known = method if method in ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT") else "other"
        self._requests.labels(known, route, str(code)).inc()
        self._seconds.labels(route).observe(seconds)

    def job(self, kind: str, end: str, seconds: float) -> None:
        """Count a job that ended or is tried again."""
        self._jobs.labels(kind, end).inc()
        self._job_seconds.labels(kind).observe(seconds)

    def text(self) -> bytes:
        """All of them in the format of Prometheus."""
        self._waiting.clear()
        for (kind, status), number in self._store.counts().items():
            self._waiting.labels(kind, status).set(number)
        self._bytes.set(self._store.used_bytes())
        return generate_latest(self.registry)
