"""The study report: one HTML page that needs no other file."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from anymri.inference.output.raw_result import RawResult
from anymri.inference.output.result import NOTICE, Result
from anymri.inference.pictures import (
    PLANES,
    brain_box,
    colour_hex,
    data_uri,
    heat_picture,
    label_colours,
    lesion_slices,
    montage_png,
    slice_picture,
    value_range,
)
from anymri.modalities import MODALITIES

__all__ = ["study_page"]

#: Long names of the field's regions and labels, for people.
NAMES = {
    "whole_tumor": "Whole tumour",
    "tumor_core": "Tumour core",
    "enhancing_tumor": "Enhancing tumour",
    "ncr": "Necrotic / non-enhancing core",
    "edema": "Oedema / infiltration",
    "et": "Enhancing tumour",
}


def study_page(result: Result) -> str:
    """HTML page of a prediction: input, pictures, volumes, completed sequences, trust, provenance.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        Self-contained: style and pictures are inside. The same result gives the same page.
    """
    spec = result.spec
    colours = label_colours(spec)
    shown = [] if result.view.label is None else [name for name in spec.labels if name in result.label_values]
    return _template().render(
        notice=NOTICE,
        inputs=[_input_row(result, code) for code in spec.modalities],
        segmented=_segmentation_pictures(result),
        legend=[(NAMES.get(name, name), colour_hex(colours[name]), result.label_values[name]) for name in shown],
        volumes=[(NAMES.get(region, region), volume) for region, volume in result.volumes_ml.items()],
        completed=_completed_pictures(result),
        regions=[(NAMES.get(region, region), values) for region, values in result.trust.get("regions", {}).items()],
        entropy=_entropy_picture(result),
        measured=_measured(result),
        agreement=[(NAMES.get(name, name), value) for name, value in result.trust.get("sample_agreement", {}).items()],
        warnings=result.warnings,
        raw=None if result.raw is None else _raw_part(result.raw),
        provenance=[(key, value) for key, value in result.provenance.items() if key != "inputs"],
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("anymri.inference.output"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("study.html.j2")


def _input_row(result: Result, code: str) -> dict[str, str]:
    given = result.provenance["inputs"].get(code)
    state = "given" if given else "filled in (synthetic)" if code in result.completed else "missing"
    return {"name": MODALITIES[code].long_name, "code": code, "state": state, "file": given["name"] if given else ""}


def _drawing(result: Result) -> dict[str, Any]:
    """What all pictures of a study share: slices, box and spacing."""
    first = next(iter(result.view.images.values()))
    return {
        "slices": lesion_slices(result.view.label, first),
        "box": brain_box(first),
        "spacing_mm": result.view.geometry.spacing_mm,
    }


def _segmentation_pictures(result: Result) -> list[dict[str, str]]:
    """One strip per sequence: the axial slice plain, then three planes with contours."""
    shared = _drawing(result)
    strips = []
    for code, image in result.view.images.items():
        limits = value_range(image)
        pictures = []
        for plane in PLANES:
            options = {
                "plane": plane, "index": shared["slices"][plane], "box": shared["box"],
                "spacing_mm": shared["spacing_mm"], "limits": limits, "spec": result.spec,
            }  # fmt: skip
            if plane == "axial" or result.view.label is None:
                pictures.append(slice_picture(image, **options))
            if result.view.label is not None:
                pictures.append(slice_picture(image, result.view.label, **options))
        name = MODALITIES[code].long_name
        text = f"{name}: axial slice through the lesion; axial, coronal and sagittal slice with its contours"
        strips.append({"name": name, "uri": data_uri(montage_png(pictures)), "text": text})
    return strips


def _completed_pictures(result: Result) -> list[dict[str, str]]:
    shared = _drawing(result)
    strips = []
    for code, image in result.view.completed.items():
        limits = value_range(image)
        pictures = [
            slice_picture(
                image, plane=plane, index=shared["slices"][plane], box=shared["box"], spacing_mm=shared["spacing_mm"],
                limits=limits, stamp="SYNTHETIC", spec=result.spec,
            )
            for plane in PLANES
        ]  # fmt: skip
        name = MODALITIES[code].long_name
        strips.append({"name": name, "uri": data_uri(montage_png(pictures)), "text": f"Synthetic {name}, three planes"})
    return strips


def _raw_part(raw: RawResult) -> dict[str, Any]:
    """Picture and figures of how a raw study was prepared."""
    rows = []
    for code, facts in raw.provenance["sequences"].items():
        aligned = facts["to_reference"]
        if isinstance(aligned, dict):
            aligned = (
                f"moved {aligned['translation_mm']:.1f} mm and {aligned['rotation_degrees']:.1f} degrees; mutual "
                f"information {aligned['mutual_information_before']:.2f} before, "
                f"{aligned['mutual_information_after']:.2f} after"
            )
        sizes = " x ".join(f"{size:.2f}" for size in facts["spacing_mm"][::-1])
        rows.append((MODALITIES[code].long_name, sizes, aligned))
    brain = raw.provenance["brain_mask"]
    return {
        "uri": data_uri(raw.picture), "rows": rows, "brain_ml": brain["brain_ml"], "method": brain["method"],
        "reference": MODALITIES[raw.reference].long_name,
    }  # fmt: skip


def _entropy_picture(result: Result) -> str | None:
    if result.view.entropy is None:
        return None
    shared = _drawing(result)
    value = np.where(next(iter(result.view.images.values())) != 0, result.view.entropy + 1e-6, 0)
    pictures = [
        heat_picture(value, (0.0, 1.0), plane=plane, index=shared["slices"][plane], box=shared["box"],
                     spacing_mm=shared["spacing_mm"])
        for plane in PLANES
    ]  # fmt: skip
    return data_uri(montage_png(pictures))


def _measured(result: Result) -> dict[str, Any] | None:
    measured = result.trust.get("measured")
    if not measured:
        return None
    rows = [(NAMES.get(region, region), value) for region, value in measured["dice"].items()]
    return {"on": measured["on"], "rows": rows}
