"""BIDS derivatives of a result: ``derivatives/anymri`` with label maps, probabilities and synthetic images.

Source: bids-specification.readthedocs.io, chapters Derivatives and Common principles.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.datasets.bids_names import entities_of
from anymri.data.nifti import write_image
from anymri.errors import UserError
from anymri.files import make_folder
from anymri.inference.output.nifti_files import DECIMALS, synthetic_facts
from anymri.inference.output.options import OutputOptions
from anymri.inference.output.result import NOTICE, Result, scheme_table
from anymri.inference.output.text import json_text, write_text
from anymri.inference.pictures import colour_hex, label_colours
from anymri.inference.words import scope, title
from anymri.modalities import MODALITIES

__all__ = ["ROOT", "join_bids", "write_bids"]

#: Place of the data set in the folder of a result.
ROOT = Path("derivatives") / "anymri"
#: Version of the specification.
VERSION = "1.10.0"
#: Order of the entities in a name, of those that are used.
_ORDER = ("sub", "ses", "acq", "ce", "space", "label", "desc")
#: Kind of folder by suffix; all others are anatomical.
_KINDS = {"dwi": "dwi", "ADC": "dwi", "MD": "dwi", "cbf": "perf", "cbv": "perf"}


def write_bids(result: Result, folder: Path, options: OutputOptions) -> None:
    """Write ``derivatives/anymri``, a data set of one study.

    Parameters
    ----------
    result : Result
    folder : Path
        Of the result.
    options : OutputOptions
    """
    root = folder / ROOT
    root.mkdir(parents=True)
    who = _subject(result)
    sources = _sources(result)
    write_text(root / "dataset_description.json", json_text(_description(result, linked=bool(sources))))
    write_text(root / "README", _readme(result))
    if result.view.label is not None:
        write_text(root / "dseg.tsv", _label_table(result))
        _write_labels(result, root, who, sources)
    _write_synthetic(result, root, who, sources)


def join_bids(studies: Iterable[Path], out: Path) -> Path | None:
    """Join the data sets of several results into one, ``out/derivatives/anymri``.

    Parameters
    ----------
    studies : iterable of Path
        Result folders; those without BIDS derivatives are passed over.
    out : Path

    Returns
    -------
    Path or None
        The joint data set; None if no result has one. Its files are the studies' files under a second name where the
        disk can do so, else copies.

    Raises
    ------
    UserError
        If two studies have the same subject and session.
    """
    joint = out / ROOT
    written: dict[Path, Path] = {}
    for study in studies:
        root = study / ROOT
        for file in sorted(file for file in root.rglob("*") if file.is_file()):
            place = file.relative_to(root)
            if len(place.parts) > 1 and written.setdefault(place, study) != study:
                raise UserError(f"{study}: has the same BIDS name as {written[place]} ({place}); rename one study")
            make_folder((joint / place).parent)
            (joint / place).unlink(missing_ok=True)
            try:
                os.link(file, joint / place)
            except OSError:
                shutil.copyfile(file, joint / place)
    return joint if written else None


def _subject(result: Result) -> dict[str, str]:
    """Entities ``sub`` and ``ses``: those of the files where they are BIDS names, else made of the study's name."""
    found = [entities_of(entry["name"]) for entry in result.provenance["inputs"].values()]
    who: dict[str, str] = {key: found[0][key] for key in ("sub", "ses") if key in found[0]}
    if "sub" in who and all(entities.get("sub") == who["sub"] for entities in found):
        return who
    named = entities_of(f"{result.name}_x")
    if "sub" in named:
        return {key: re.sub(r"[^A-Za-z0-9]", "", named[key]) for key in ("sub", "ses") if key in named}
    return {"sub": re.sub(r"[^A-Za-z0-9]", "", result.name) or "study"}


def _sources(result: Result) -> dict[str, str]:
    """BIDS URIs of the raw images by modality, where they have BIDS names."""
    found = {}
    for code in result.available:
        name = result.provenance["inputs"][code]["name"]
        entities = entities_of(name)
        if "sub" not in entities:
            continue
        session = f"ses-{entities['ses']}/" if "ses" in entities else ""
        found[code] = f"bids:raw:sub-{entities['sub']}/{session}{_kind(_suffix(code))}/{name}"
    return found


def _origin(result: Result, code: str | None, sources: Mapping[str, str]) -> dict[str, Any]:
    """What an image was made from, and of a raw study the image on whose own grid it is."""
    facts: dict[str, Any] = {"Sources": list(sources.values())} if sources else {}
    if code is not None:
        name = result.provenance["inputs"][code]["name"]
        facts["SpatialReference"] = sources.get(code) or f"{MODALITIES[code].long_name} image as acquired ({name})"
    return facts


def _suffix(code: str) -> str:
    return MODALITIES[code].bids_suffix.rpartition("_")[2] or code


def _kind(suffix: str) -> str:
    return _KINDS.get(suffix, "anat")


def _description(result: Result, linked: bool) -> dict[str, Any]:
    program, _, version = result.provenance["program"].partition(" ")
    facts = {
        "Name": f"{program}: {result.provenance['model']}",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": program,
                "Version": version,
                "Description": f"model {result.provenance['model']}, method {result.provenance['method']}, "
                f"weights sha256 {result.provenance['weights_sha256'] or 'in memory'}",
            }
        ],
        "HowToAcknowledge": "See the citations in result.json, or the command: anymri cite",
    }
    # A derivative lies in the raw data set that it was made from; there the link holds.
    return {**facts, "DatasetLinks": {"raw": "../../"}} if linked else facts


def _readme(result: Result) -> str:
    return (
        f"Derivatives by anymri, model {result.provenance['model']}.\n\n"
        "*_dseg.nii.gz are label maps, whose values dseg.tsv explains; *_probseg.nii.gz are probabilities (0 to 1) of\n"
        "regions, which may overlap; *_desc-synthetic_* are images that a network computed and nobody acquired.\n\n"
        f"{NOTICE} {scope(result.spec)}\n"
    )


def _label_table(result: Result) -> str:
    colours = label_colours(result.spec)
    rows = [
        f"{value}\t{title(label)}\t{label}\t{colour_hex(colours[label])}"
        for label, value in result.label_values.items()
    ]
    return "\n".join(["index\tname\tabbreviation\tcolor", "0\tBackground\tbackground\t#000000", *rows]) + "\n"


def _where(result: Result, code: str | None) -> dict[str, str]:
    """Entities that tell on which sequence's own grid an image of a raw study is."""
    return {} if code is None else {"space": "orig", "desc": re.sub(r"\W|_", "", MODALITIES[code].short_name)}


def _path(root: Path, who: Mapping[str, str], entities: Mapping[str, str], suffix: str) -> Path:
    """File without its ending, in a folder that is there."""
    everything = {**entities, **who}
    name = "_".join(f"{key}-{everything[key]}" for key in _ORDER if key in everything)
    folder = root.joinpath(*(f"{key}-{value}" for key, value in who.items()), _kind(suffix))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}_{suffix}"


def _write_labels(result: Result, root: Path, who: Mapping[str, str], sources: Mapping[str, str]) -> None:
    """Label map on every grid, and the probability of every region on the grid of the result."""
    table = scheme_table(result.spec, result.label_values)
    grids: dict[str | None, Any] = {result.reference: result.view.geometry}
    if result.raw is not None:
        grids.update(result.raw.native)
    facts: dict[str, Any] = {"Description": f"Automatic segmentation. {NOTICE}", "Manual": False}
    if result.unknown:
        facts["Guesses"] = {title(region): reason for region, reason in result.unknown.items()}
    for code, geometry in grids.items():
        label = result.view.label if code is None else result.label_on(code)
        assert label is not None
        path = _path(root, who, _where(result, code), "dseg")
        write_image(f"{path}.nii.gz", table[label], geometry, table.dtype)
        write_text(Path(f"{path}.json"), json_text({**facts, **_origin(result, code, sources)}))
    facts |= _origin(result, result.reference, sources)
    for region, values in result.view.probability.items():
        name = _camel(region)
        path = _path(root, who, {**_where(result, result.reference), "label": name}, "probseg")
        write_image(f"{path}.nii.gz", np.round(values, DECIMALS), result.view.geometry, np.float32)
        write_text(Path(f"{path}.json"), json_text({**facts, "Description": f"Probability of {name}. {NOTICE}"}))


def _write_synthetic(result: Result, root: Path, who: Mapping[str, str], sources: Mapping[str, str]) -> None:
    for code, array in result.view.completed.items():
        entities = {**({"space": "orig"} if result.reference else {}), "desc": "synthetic"}
        if code == "t1c":
            entities["ce"] = "gadolinium"
        elif any(_suffix(other) == _suffix(code) for other in result.spec.modalities if other not in (code, "t1c")):
            entities["acq"] = code.replace("_", "")
        path = _path(root, who, entities, _suffix(code))
        write_image(f"{path}.nii.gz", array, result.view.geometry, np.float32)
        facts = {
            "Description": f"SYNTHETIC {MODALITIES[code].long_name}: computed, never acquired. {NOTICE}",
            "SkullStripped": True,
            **{_camel(key): value for key, value in synthetic_facts(result, code).items()},
        }
        write_text(Path(f"{path}.json"), json_text({**facts, **_origin(result, result.reference, sources)}))


def _camel(words: str) -> str:
    """``made_from`` as BIDS writes it, ``MadeFrom``."""
    return "".join(word.capitalize() for word in words.split("_"))
