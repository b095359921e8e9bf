"""Settings of the server: where it listens, who may ask, and the limits of everything that comes in."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anymri.errors import UserError

__all__ = ["NOBODY", "Limits", "ServerSettings", "read_tokens"]

#: Owner of studies where the server has no tokens.
NOBODY = ""
#: A token has at least so many characters: 128 bits, as 32 hexadecimal digits have.
SHORTEST_TOKEN = 32


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Most of everything.

    Parameters
    ----------
    upload_bytes, unpacked_bytes : int
        Of one study: as it is sent, and what archives in it unpack to.
    files : int
        Of one study, those of an archive counted.
    upload_s, pause_s : float
        For one upload in all, and between two parts of it.
    uploads : int
        At a time.
    waiting : int
        Jobs in the queue beyond which uploads and runs are refused (429).
    job_s : float
        For one job; a worker that takes longer is ended.
    job_bytes : int
        Memory of a worker (resident); 0 = no limit.
    keep_s : float
        How long a study is kept after it was sent.
    quota_bytes : int
        Of all studies together.
    reserve_bytes : int
        Of the disk, that are left free.
    """

    upload_bytes: int = 2 * 2**30
    unpacked_bytes: int = 8 * 2**30
    files: int = 20_000
    upload_s: float = 900.0
    pause_s: float = 30.0
    uploads: int = 16
    waiting: int = 50
    job_s: float = 3600.0
    job_bytes: int = 12 * 2**30
    keep_s: float = 24 * 3600.0
    quota_bytes: int = 100 * 2**30
    reserve_bytes: int = 2**29


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything that a start of the server can choose.

    Parameters
    ----------
    folder : Path
        Data folder: database, uploads, results. Nothing is written elsewhere.
    host : str, default="127.0.0.1"
    port : int, default=8000
    tokens : mapping of str to str, default={}
        SHA-256 of a token to the name of its owner; empty = no token is asked for, which loopback alone allows.
    names : tuple of str, default=()
        Host names under which the server is reached, beside ``localhost`` and addresses.
    root_path : str, default=""
        Where a proxy mounts it, e.g. ``/anymri``.
    workers, threads : int
        Jobs at a time; threads of each, 0 = its share of the cores.
    device : str, default="auto"
    model : str, default="default"
        What studies that come by DICOMweb are run with.
    models : mapping of str to str, default={}
        Name to weights file or run folder, beside the bundled ones.
    limits : Limits
    send_to : str or None, default=None
        Root of a DICOMweb server that results are sent to.
    send_token : str or None, default=None
        Sent to it as a bearer token.
    settle_s : float, default=30.0
        How long after the last instance a study that came by DICOMweb counts as complete.
    demo : bool, default=False
        Whether to begin with the study of a phantom.

    Raises
    ------
    UserError
        If it would listen beyond loopback without a token.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    names: tuple[str, ...] = ()
    root_path: str = ""
    workers: int = 1
    threads: int = 0
    device: str = "auto"
    model: str = "default"
    models: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    send_to: str | None = None
    send_token: str | None = field(default=None, repr=False)
    settle_s: float = 30.0
    demo: bool = False

    def __post_init__(self) -> None:
        if not self.tokens and not is_loopback(self.host):
            raise UserError(
                f"--host {self.host}: reachable by others, and no token is asked for; give --token-file FILE, or leave "
                "--host out"
            )
        if self.demo and self.tokens:
            raise UserError(
                "--demo: nobody owns its study where tokens are asked for; leave out --demo or --token-file"
            )
        if self.send_to is not None and not self.send_to.startswith(("http://", "https://")):
            raise UserError(f"--send-to {self.send_to}: is no address; write e.g. http://localhost:8042/dicom-web")


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_tokens(path: Path) -> dict[str, str]:
    """Tokens of a file: one a line, with the name of its owner and a colon in front or not; ``#`` begins a remark.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to str
        SHA-256 of each token to the name of its owner; a token alone owns what is its own.

    Raises
    ------
    UserError
        If the file cannot be read or is open to others, a token is too short or comes twice, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        open_to_others = path.stat().st_mode & 0o007
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); write one token a line") from None
    if open_to_others:
        raise UserError(f"{path}: everybody on this machine can read it; chmod 600 {path.name}")
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        owner, _, token = text.rpartition(":")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        if len(token.strip()) < SHORTEST_TOKEN:
            raise UserError(f"{path}: the token of line {number} is too short; make one with: openssl rand -hex 32")
        if digest in tokens:
            raise UserError(f"{path}: the token of line {number} comes twice; give everybody one of their own")
        tokens[digest] = owner.strip() or digest[:16]
    if not tokens:
        raise UserError(f"{path}: holds no token; make one with: openssl rand -hex 32")
    return tokens
