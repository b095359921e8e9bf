"""The study of `anymri serve --demo`: a digital phantom, so that a newcomer sees something at once."""

from __future__ import annotations

import shutil
from pathlib import Path

from anymri.server.places import Places, new_identifier
from anymri.server.settings import NOBODY, ServerSettings
from anymri.server.store import Store

__all__ = ["DEMO_SEED", "add_demo", "draw_demo"]

#: Of a patient whose tumour enhances.
DEMO_SEED = 6
#: What four sequences of a phantom take, about.
DEMO_BYTES = 4_000_000
#: Idempotency key under which the study is found again after a restart; no client can send one with a line break.
_KEY = "demo\n"
#: Modality to the end of its file's name in the layout that phantoms are written in.
_NAMES = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"}


def add_demo(settings: ServerSettings, places: Places, store: Store) -> str:
    """Write the study down with a run, unless it is there from an earlier start; a worker draws its images.

    Parameters
    ----------
    settings : ServerSettings
    places : Places
    store : Store

    Returns
    -------
    str
        Its identifier.
    """
    if (known := store.by_key(NOBODY, _KEY)) is not None:
        return known
    study = new_identifier()
    places.upload(study).mkdir(parents=True)
    named = {code: f"fields/{code}/phantom-{code}.nii.gz" for code in _NAMES}
    told = {"files": len(named), "ignored": 0, "named": named, "folder": None, "form": "fields", "raw": "no"}
    request = {"model": "default", "subset": None, "completion": "auto", "formats": ["nifti"]}
    store.add_study(
        study, NOBODY, told | {"phantom": DEMO_SEED}, size=DEMO_BYTES, keep_s=settings.limits.keep_s, key=_KEY,
        request=request, run=new_identifier(),
    )  # fmt: skip
    return study


def draw_demo(upload: Path, seed: int) -> None:
    """Draw the images of the study, whole or not at all; nothing is done where they are there.

    Parameters
    ----------
    upload : Path
        Folder of what was sent.
    seed : int
    """
    from anymri.phantom import generate

    if (upload / "fields").exists():
        return
    draft = upload / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    (drawn,) = (path for path in generate(draft, 1, seed, progress=False).iterdir() if path.name.startswith("BraTS"))
    for code, end in _NAMES.items():
        target = draft / "fields" / code
        target.mkdir(parents=True)
        (drawn / f"{drawn.name}-{end}.nii.gz").rename(target / f"phantom-{code}.nii.gz")
    (draft / "fields").rename(upload / "fields")
    shutil.rmtree(draft)
