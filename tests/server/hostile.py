"""Hostile requests, each of which has to be refused with a 4xx: for the tests, and for tools/serve_campaign.py."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from typing import Any, NamedTuple

FORM = {"content-type": "multipart/form-data; boundary=b"}
ELSEWHERE = "0123456789abcdef" * 2


class Hostile(NamedTuple):
    """One request: what it tries, and the arguments of `httpx.Client.request`."""

    name: str
    method: str
    path: str
    options: dict[str, Any] = {}


def hostile_requests(image: bytes, study: str, run: str, most_files: int, bomb_bytes: int) -> list[Hostile]:
    """All of them.

    Parameters
    ----------
    image : bytes
        A good ``.nii.gz``.
    study, run : str
        A study that is there, with its run.
    most_files : int
        That the server takes.
    bomb_bytes : int
        More than it unpacks.
    """
    found = [*_paths(study, run), *_names(image), *_archives(image, most_files, bomb_bytes), *_contents(image)]
    return [*found, *_forms(image), *_values(study), *_headers(image, study, run), *_dicomweb(image)]


def _send(name: str, *files: Any, headers: Any = None, **fields: str) -> Hostile:
    options = {"files": list(files), "data": fields, **({"headers": headers} if headers else {})}
    return Hostile(name, "POST", "/studies", options)


def _paths(study: str, run: str) -> list[Hostile]:
    here = f"/studies/{study}"
    tries = [
        "../../../../etc/passwd", "%2e%2e/%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fanymri.sqlite3", "%00",
        "..%5c..%5cwin.ini",
        "/etc/passwd", "....//....//etc/passwd", "fields/t1/../../../../../anymri.sqlite3", "x" * 2000, "%ff%fe",
    ]  # fmt: skip
    found = [Hostile(f"input file {text[:30]}", "GET", f"{here}/files/{text}") for text in tries]
    found += [Hostile(f"result file {text[:30]}", "GET", f"{here}/runs/{run}/files/{text}") for text in tries]
    found += [
        Hostile(f"identifier {text[:30]}", "GET", f"/studies/{text}")
        for text in (
            "..%2f..",
            "%00",
            ELSEWHERE,
            ELSEWHERE.upper(),
            "1 OR 1=1",
            "'; DROP TABLE studies; --",
            "a" * 5000,
        )
    ]
    found += [
        Hostile("run of another study", "GET", f"{here}/runs/{ELSEWHERE}"),
        Hostile("remove what is not there", "DELETE", f"/studies/{ELSEWHERE}"),
        Hostile("remove everything", "DELETE", "/studies"),
        Hostile("unknown method", "PROPFIND", "/studies"),
        Hostile("replace a study", "PUT", here),
    ]
    return found


def _names(image: bytes) -> list[Hostile]:
    names = {
        "up": "../../../evil.nii.gz", "absolute": "/etc/cron.d/evil.nii.gz", "windows": "C:/evil.nii.gz",
        "backslashes": "..\\..\\evil.nii.gz", "64 KB": "x" * 65536 + ".nii.gz", "deep": "a/" * 100 + "t1.nii.gz",
        "2 KB": "x" * 2000 + ".nii.gz", "hidden alone": ".t1.nii.gz", "middle": "a/../../../evil.nii.gz",
    }  # fmt: skip
    return [_send(f"name {what}", ("files", (name, image))) for what, name in names.items()]


def _zip(*entries: tuple[Any, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def _archives(image: bytes, most_files: int, bomb_bytes: int) -> list[Hostile]:
    good = _zip(("t1.nii.gz", image))
    encrypted = bytearray(good)
    for at in (good.find(b"PK\3\4") + 6, good.find(b"PK\1\2") + 8):
        encrypted[at] |= 1
    lying = bytearray(good)
    at = good.find(b"PK\1\2") + 24
    lying[at : at + 4] = struct.pack("<I", 2**31 - 1)
    bombs = [(f"{number}.dcm", b"\0" * 128 + b"DICM" + bytes(bomb_bytes // 8)) for number in range(10)]
    archives = {
        "slip": _zip(("../../evil.nii.gz", image)),
        "absolute": _zip(("/tmp/evil.nii.gz", image)),
        "slip in the middle": _zip(("a/../../../evil.nii.gz", image)),
        "backslashes": _zip(("..\\evil.nii.gz", image)),
        "link": _zip((_entry("t1.nii.gz", 0o120777), b"/etc/passwd")),
        "pipe": _zip((_entry("t1.nii.gz", 0o010644), b"")),
        "device": _zip((_entry("t1.nii.gz", 0o020644), b"")),
        "bomb": _zip(("t1.dcm", b"\0" * 128 + b"DICM" + bytes(bomb_bytes))),
        "many bombs": _zip(*bombs),
        "in an archive": _zip(("inner.zip", good)),
        "gzip in it": _zip(("inner.tar.gz", gzip.compress(b"x" * 1000))),
        "too many": _zip(*((f"{number}.json", b"{}") for number in range(most_files + 1)), method=zipfile.ZIP_STORED),
        "encrypted": bytes(encrypted),
        "lying about its size": bytes(lying),
        "cut off": good[: len(good) // 2],
        "empty": _zip(),
        "no image": _zip(("readme.txt", b"hello")),
        "pickle": _zip(("model.pkl", pickle.dumps({"a": 1}, 2))),
        "twice": _zip(("t1.nii.gz", image), ("t1.nii.gz", image)),
        "file as folder": _zip(("a.nii.gz", image), ("a.nii.gz/t1.nii.gz", image)),
        "HTML name": _zip(("<script>alert(1)</script>.exe", b"MZ")),
        "of noise": b"PK\3\4" + bytes(range(256)) * 8,
    }
    return [_send(f"archive {what}", ("files", ("study.zip", content))) for what, content in archives.items()]


def _contents(image: bytes) -> list[Hostile]:
    header = bytearray(gzip.decompress(image)[:352])

    def changed(at: int, form: str, *values: float) -> bytes:
        copy = bytearray(header)
        struct.pack_into("<2h", copy, 252, 0, 1)  # the sform alone: of two forms the good one would be read
        struct.pack_into(form, copy, at, *values)
        return gzip.compress(bytes(copy) + bytes(1000))

    nan = float("nan")
    contents = {
        "NaN affine": changed(280, "<12f", *[nan] * 12),
        "infinite affine": changed(280, "<12f", *[float("inf")] * 12),
        "negative size": changed(40, "<8h", 3, -5, 9, 9, 1, 1, 1, 1),
        "no dimension": changed(40, "<8h", 0, 0, 0, 0, 0, 0, 0, 0),
        "seven dimensions": changed(40, "<8h", 7, 9, 9, 9, 9, 9, 9, 9),
        "promises too much": changed(40, "<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1),
        "unknown type": changed(70, "<h", 31000),
        "wrong magic": changed(344, "<I", 0),
        "empty": b"",
        "text": b"hello",
        "pickle": pickle.dumps({"a": 1}, 4),
        "HTML": b"<html><script>alert(1)</script></html>",
        "program": b"\x7fELF" + bytes(1000),
        "gzip bomb of zeros": gzip.compress(bytes(5_000_000)),
        "cut off in the header": gzip.compress(bytes(header[:100])),
    }
    found = [_send(f"content {what}", ("t1", ("t1.nii.gz", content))) for what, content in contents.items()]
    found += [
        _send("pickle as a file", ("files", ("model.pt", pickle.dumps([1], 2)))),
        _send("tar", ("files", ("study.tar.gz", gzip.compress(b"x")))),
        _send("NRRD without a header", ("t1", ("t1.nrrd", b"nothing"))),
        _send("DICOM in a field", ("t1", ("t1.dcm", bytes(128) + b"DICM" + bytes(300)))),
    ]
    return found


def _forms(image: bytes) -> list[Hostile]:
    file = ("t1", ("t1.nii.gz", image))
    bare = {"content-type": "multipart/form-data"}
    return [
        _send("unknown field", ("shoe", ("t1.nii.gz", image))),
        _send("HTML as a field", ("<script>", ("t1.nii.gz", image))),
        _send("field twice", file, file),
        _send("field and folder", file, ("files", ("t2.nii.gz", image))),
        _send("file twice", ("files", ("t1.nii.gz", image)), ("files", ("t1.nii.gz", image))),
        _send("no file", run="true"),
        _send("archive and more", ("files", ("a.zip", _zip(("t1.nii.gz", image)))), ("files", ("t2.nii.gz", image))),
        _send("unknown model", file, model="../../etc/passwd"),
        _send("model of another place", file, model="/tmp/model.safetensors"),
        _send("unknown subset", file, subset="t1+<b>"),
        _send("unknown format", file, formats="exe"),
        _send("unknown completion", file, completion="maybe"),
        _send("run is no truth", file, run="perhaps"),
        _send("long field", file, model="x" * 5000),
        Hostile("no multipart", "POST", "/studies", {"json": {"t1": "x"}}),
        Hostile("no body", "POST", "/studies"),
        Hostile("no boundary", "POST", "/studies", {"content": b"x", "headers": bare}),
        Hostile(
            "body that is no multipart", "POST", "/studies",
            {"content": b"x" * 999, "headers": FORM},
        ),
        Hostile(
            "cut off", "POST", "/studies",
            {
                "content": b'--b\r\nContent-Disposition: form-data; name="t1"; filename="a.nii"\r\n\r\n' + image[:99],
                "headers": FORM,
            },
        ),
        Hostile(
            "header without end", "POST", "/studies",
            {"content": b"--b\r\nX: " + b"y" * 99999, "headers": FORM},
        ),
    ]  # fmt: skip


def _values(study: str) -> list[Hostile]:
    here = f"/studies/{study}"
    bodies: dict[str, Any] = {
        "list": [], "unknown key": {"shell": "rm"}, "number": {"model": 7}, "subset of numbers": {"subset": [1]},
        "no sequence": {"subset": []}, "path as model": {"model": "../x"}, "no formats": {"formats": []},
        "format by path": {"formats": ["../x"]}, "unknown sequence": {"subset": ["x" * 999]},
    }  # fmt: skip
    found = [Hostile(f"run with {what}", "POST", f"{here}/runs", {"json": body}) for what, body in bodies.items()]
    labels: dict[str, Any] = {
        "path": {"../../x": "t1"}, "HTML": {"<b>": "t1"}, "nothing": {}, "number": {"t1/t1.nii.gz": 7},
        "unknown sequence": {"t1/t1.nii.gz": "<script>"},
    }  # fmt: skip
    found += [
        Hostile(f"label with {what}", "PATCH", f"{here}/sequences", {"json": {"sequences": value}})
        for what, value in labels.items()
    ]
    raw = {"headers": {"content-type": "application/json"}}
    found += [
        Hostile("deep JSON", "POST", f"{here}/runs", {"content": b"[" * 50_000, **raw}),
        Hostile("no JSON", "POST", f"{here}/runs", {"content": b"\xff\xfe{", **raw}),
        Hostile("large JSON", "POST", f"{here}/runs", {"content": b'{"model": "' + b"x" * 2**20 + b'"}', **raw}),
        Hostile("limit below", "GET", "/studies?limit=0"),
        Hostile("limit above", "GET", "/studies?limit=99999999999999999999"),
    ]
    return found


def _headers(image: bytes, study: str, run: str) -> list[Hostile]:
    file = ("t1", ("t1.nii.gz", image))
    here = f"/studies/{study}"
    return [
        Hostile("rebound name", "GET", here, {"headers": {"host": "evil.example"}}),
        Hostile("rebound name with a port", "GET", here, {"headers": {"host": "evil.example:8000"}}),
        Hostile("64 KB of headers", "GET", here, {"headers": {"x-more": "y" * 65536}}),
        Hostile("host with a user", "GET", here, {"headers": {"host": "localhost@evil.example"}}),
        _send("other origin", file, headers={"origin": "http://evil.example"}),
        _send("no origin", file, headers={"origin": "null"}),
        _send("other port as origin", file, headers={"origin": "http://localhost:1"}),
        _send("cross site", file, headers={"sec-fetch-site": "cross-site"}),
        Hostile("remove from another site", "DELETE", here, {"headers": {"origin": "https://evil.example"}}),
        _send("key without end", file, headers={"idempotency-key": "x" * 5000}),
        _send("type of another", file, headers={"content-type": "text/html"}),
    ]


def _dicomweb(image: bytes) -> list[Hostile]:
    def stow(name: str, content: bytes, path: str = "/dicomweb/studies", boundary: str = "b") -> Hostile:
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        return Hostile(name, "POST", path, {"content": content, "headers": {"content-type": kind}})

    part = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    return [
        stow("STOW of NIfTI", part + image + b"\r\n--b--\r\n"),
        stow("STOW of noise", part + bytes(128) + b"DICM" + bytes(range(256)) * 4 + b"\r\n--b--\r\n"),
        stow("STOW cut off", part + image),
        stow("STOW without parts", b"--b--\r\n"),
        stow("STOW to a path", part + b"\r\n--b--\r\n", "/dicomweb/studies/..%2f..%2fetc"),
        stow("STOW to no identifier", part + b"\r\n--b--\r\n", "/dicomweb/studies/<script>"),
        Hostile("STOW as a form", "POST", "/dicomweb/studies", {"files": [("f", ("x.dcm", b"x"))]}),
    ]
