"""Verb serve: the server and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import Device, finite, key_values, writes
from anymri.errors import UserError

Data = Annotated[Path, typer.Option("--data", "-o", help="Folder of uploads, results and the database.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="One token a line, OWNER:TOKEN; needed beyond this machine.")
]
Names = Annotated[
    list[str] | None, typer.Option("--name", help="Host name under which it is reached (Host header); repeatable.")
]
Models = Annotated[
    list[str] | None, typer.Option("--model", "-m", help="NAME=WEIGHTS, a model beside the bundled ones; repeatable.")
]
KeepHours = Annotated[
    float, typer.Option("--keep", min=0.01, max=24 * 365, callback=finite, help="Hours a study is kept.")
]
QuotaGB = Annotated[
    float, typer.Option("--quota", min=0.001, max=1e6, callback=finite, help="GB of all studies together.")
]
UploadGB = Annotated[float, typer.Option("--upload", min=0.001, max=1e4, callback=finite, help="GB of one upload.")]
JobMinutes = Annotated[float, typer.Option("--job-minutes", min=0.01, max=1e5, callback=finite, help="Longest job.")]
JobMemoryGB = Annotated[
    float, typer.Option("--job-memory", min=0.0, max=1e5, callback=finite, help="GB of a worker; 0 = any.")
]
SettleS = Annotated[
    float,
    typer.Option(
        "--settle", min=0.1, max=3600, callback=finite, help="Seconds until a DICOMweb study counts as complete."
    ),
]


@writes("output", kept="studies and jobs are kept; the same command goes on with them")
def serve(
    output: Data = Path("anymri-server"),
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; beyond loopback needs tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0 = any that is free.")] = 8000,
    token_file: TokenFile = None,
    name: Names = None,
    root_path: Annotated[str, typer.Option("--root-path", help="Where a proxy mounts it, e.g. /anymri.")] = "",
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Predictions at a time.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=0, max=1024, help="CPU threads of each; 0 = its share.")] = 0,
    device: Device = "auto",
    model: Models = None,
    keep_hours: KeepHours = 24.0,
    quota_gb: QuotaGB = 100.0,
    upload_gb: UploadGB = 2.0,
    waiting: Annotated[int, typer.Option("--waiting", min=1, max=100_000, help="Jobs that may wait; then 429.")] = 50,
    job_minutes: JobMinutes = 60.0,
    job_gb: JobMemoryGB = 12.0,
    send_to: Annotated[str | None, typer.Option("--send-to", help="DICOMweb server that results are sent to.")] = None,
    settle_s: SettleS = 30.0,
    demo: Annotated[bool, typer.Option("--demo", help="Begin with a phantom patient, to look around.")] = False,
) -> None:
    """Serve studies over HTTP: a page for people, an interface for programs, DICOMweb for archives.

    Listens on this machine alone, and without a token, unless told otherwise. The environment variable
    ANYMRI_SEND_TOKEN is sent as a bearer token to the server of --send-to.

    Example: anymri serve --port 8000
    """
    import importlib.util
    import os

    absent = [
        name
        for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
        if importlib.util.find_spec(name) is None
    ]
    if absent:
        raise UserError(f"serve: needs {', '.join(absent)}, which is not installed; pip install 'anymri[serve]'")
    if demo and importlib.util.find_spec("nilearn") is None:
        raise UserError("--demo: needs nilearn, which is not installed; pip install 'anymri[serve,phantom]'")
    from anymri.server.run import run_server
    from anymri.server.settings import Limits, ServerSettings, read_tokens

    limits = Limits(
        keep_s=keep_hours * 3600, quota_bytes=int(quota_gb * 1e9), upload_bytes=int(upload_gb * 1e9), waiting=waiting,
        unpacked_bytes=int(4 * upload_gb * 1e9), job_s=job_minutes * 60, job_bytes=int(job_gb * 1e9),
    )  # fmt: skip
    settings = ServerSettings(
        folder=output.absolute(), host=host, port=port, tokens={} if token_file is None else read_tokens(token_file),
        names=tuple(one.lower() for one in name or ()), root_path=root_path.rstrip("/"), workers=workers,
        threads=threads, device=device, models=key_values(model, "--model", "mine=runs/mine"), limits=limits,
        send_to=send_to, send_token=os.environ.get("ANYMRI_SEND_TOKEN"), settle_s=settle_s, demo=demo,
    )  # fmt: skip
    run_server(settings, say=lambda text: typer.echo(text, err=True))
