"""The study report: one HTML page that needs no other file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from anymri.inference.output.completed_part import completed_part
from anymri.inference.output.first_line import first_line, is_usable
from anymri.inference.output.raw_result import RawResult
from anymri.inference.output.result import NOTICE, Result
from anymri.inference.output.scroll import make_scroll
from anymri.inference.pictures import (
    HEAT,
    Plane,
    colour_hex,
    data_uri,
    heat_picture,
    label_colours,
    largest_component,
    lesion_slices,
    montage_png,
    png_bytes,
    section_areas,
    slice_picture,
)
from anymri.inference.trust.measured import first_sentences, is_low, trust_line
from anymri.inference.trust.told import expected_rows, gain_rows, trust_sentences
from anymri.inference.words import name, scope, title
from anymri.modalities import MODALITIES

__all__ = ["Place", "lesion_places", "page_template", "study_page"]

#: A lesion is seen well in a slice that cuts at least this share of its largest section.
SEEN_SHARE = 0.5
#: Entropy below this is not coloured, so that the anatomy shows.
COLOURED = 0.1
#: With fewer sequences than this the first printed page has room for further planes.
FEW = 3


Array = np.ndarray[Any, Any]


class Place(NamedTuple):
    """Three slices through one lesion.

    Attributes
    ----------
    title : str
    slices : dict
        Plane to index.
    """

    title: str
    slices: dict[Plane, int]


def study_page(result: Result) -> str:
    """HTML page of a prediction: input, pictures, volumes, completed sequences, trust, provenance.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        Self-contained: style, pictures and the few lines that scroll them are inside. The same result gives the same
        page.
    """
    places = lesion_places(result)
    shown = places[0].slices
    with ThreadPoolExecutor(1) as pool:
        scroll = pool.submit(make_scroll, result.view, result.spec, shown["axial"])
        return page_template("study.html.j2").render(
            name=result.name,
            notice=NOTICE,
            scope=scope(result.spec),
            first=first_line(result),
            usable=is_usable(result),
            told=first_sentences(result.trust, result.spec, result.available),
            inputs=[_input_row(result, code) for code in result.spec.modalities],
            key=_key_pictures(result, shown),
            places=[(place.title, _strips(result, place.slices)) for place in places],
            long_names={code: MODALITIES[code].long_name for code in result.view.images},
            legend=_legend(result),
            volumes=_volume_rows(result),
            orientation_known=result.view.geometry.orientation_known,
            completed=completed_part(result, shown),
            regions=[(title(region), values) for region, values in result.trust["regions"].items()],
            entropy=_entropy_picture(result, shown),
            first_sequence=MODALITIES[next(iter(result.view.images))].long_name,
            heat=[colour_hex(colour) for colour in HEAT],
            coloured=COLOURED,
            measured=result.trust["measured"],
            calibrated=_trust_part(result),
            agreement=[(title(region), value) for region, value in result.trust.get("sample_agreement", {}).items()],
            warnings=result.warnings,
            quality=result.quality.rows() if result.quality else [],
            raw=None if result.raw is None else _raw_part(result.raw),
            made_by=_made_by(result),
            provenance=[(key, value) for key, value in result.provenance.items() if key != "inputs"],
            scroll=scroll.result(),  # last, so that the sheets are drawn while the rest is
        )


def lesion_places(result: Result) -> list[Place]:
    """Slices through the largest part of the largest region, then of the smaller regions where they lie elsewhere.

    Parameters
    ----------
    result : Result

    Returns
    -------
    list of Place
        At least one. A region whose largest part is seen well in the slices before has none of its own; the middle
        of the brain if nothing was segmented.
    """
    label = result.view.label
    first = next(iter(result.view.images.values()))
    middle = [Place("Through the middle of the brain", lesion_slices(None, first))]
    if label is None:
        return middle
    known = [region for region in result.volumes_ml if region not in result.unknown]
    places: list[Place] = []
    # The largest region first, then from the smallest: the enhancing part goes before the core around it.
    for region in [*known[:1], *known[:0:-1]]:
        lesion = largest_component(np.isin(label, result.spec.region_values(region)))
        if lesion.any() and not any(_shows(place.slices, lesion) for place in places):
            places.append(Place(f"Through the largest part of the {name(region)}", lesion_slices(lesion, first)))
    return places or middle


def _shows(slices: dict[Plane, int], lesion: Array) -> bool:
    """Whether every one of three slices cuts a large section of a lesion."""
    return all(areas[slices[plane]] >= SEEN_SHARE * areas.max() for plane, areas in section_areas(lesion).items())


def _legend(result: Result) -> list[dict[str, Any]]:
    """Colour, name and file value of every label; whether it is only a guess."""
    if result.view.label is None:
        return []
    colours = label_colours(result.spec)
    guessed = {label for region in result.unknown for label in result.spec.regions[region]}
    return [
        {"name": title(label), "colour": colour_hex(colours[label]), "value": value, "guess": label in guessed}
        for label, value in result.label_values.items()
    ]


def _volume_rows(result: Result) -> list[dict[str, Any]]:
    """Volume and measured trust of every region, or why there is none."""
    return [
        {
            "name": title(region),
            "ml": volume,
            "unknown": result.unknown.get(region, "").partition(";")[0],
            "trust": trust_line(result.trust, region),
            "low": is_low(result.trust, region),
        }
        for region, volume in result.volumes_ml.items()
    ]


@cache
def page_template(name: str) -> Any:
    """Template of a page, by its file in ``templates``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("anymri.inference.output"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def _input_row(result: Result, code: str) -> dict[str, str]:
    given = result.provenance["inputs"].get(code)
    judged = result.trust.get("completion", {}).get(code, {})
    doubt = ": not shown to beat a copy" if judged.get("beats_copying") is False else ""
    absent = f"filled in (SYNTHETIC{doubt})" if code in result.view.completed else "not given"
    if judged and code not in result.view.completed:
        absent += f"; not filled in{doubt}"
    if result.quality and code in result.quality.dropped:
        absent = f"left out (unusable), {absent}"
    state = "given" if given else absent
    return {"name": MODALITIES[code].long_name, "code": code, "state": state, "file": given["name"] if given else ""}


def _made_by(result: Result) -> str:
    """Program and model in a few words; the whole provenance stands at the end of the report."""
    facts = result.provenance
    digest = str(facts.get("weights_sha256", ""))[:12]
    parts = [str(facts[key]) for key in ("program", "model") if facts.get(key)]
    return " with ".join(parts) + (f" (weights {digest})" if digest else "")


def _key_pictures(result: Result, slices: dict[Plane, int]) -> list[dict[str, Any]]:
    """What the first printed page shows: an axial slice of every sequence, further planes of one or two, the doubt."""
    view = result.view
    options: dict[str, Any] = {"box": view.box, "spacing_mm": view.geometry.spacing_mm, "height": 320}
    first = next(iter(view.images))
    wanted: list[tuple[str, Plane]] = [(code, "axial") for code in view.images]
    if len(wanted) < FEW:
        wanted += [(first, "coronal"), (first, "sagittal")]
    pictures = []
    for code, plane in wanted:
        drawn = slice_picture(
            view.images[code], view.label, plane=plane, index=slices[plane], limits=view.limits[code],
            spec=result.spec, **options,
        )  # fmt: skip
        pictures.append((f"{MODALITIES[code].short_name}, {plane}", drawn))
    if view.doubt is not None:
        doubt = heat_picture(
            view.images[first], view.doubt, from_value=COLOURED, plane="axial", index=slices["axial"],
            limits=view.limits[first], **options,
        )  # fmt: skip
        pictures.append(("Where the model is unsure", doubt))
    return [
        {"text": text, "uri": data_uri(png_bytes(drawn)), "ratio": round(drawn.width / drawn.height, 4)}
        for text, drawn in pictures
    ]


def _strips(result: Result, slices: dict[Plane, int]) -> list[dict[str, str]]:
    """One strip per sequence: the axial slice plain, then three planes with contours."""
    view = result.view
    options: dict[str, Any] = {"box": view.box, "spacing_mm": view.geometry.spacing_mm, "spec": result.spec}
    strips = []
    for code, image in view.images.items():
        options["limits"] = view.limits[code]
        pictures = []
        for plane, index in slices.items():
            if plane == "axial" or view.label is None:
                pictures.append(slice_picture(image, plane=plane, index=index, **options))
            if view.label is not None:
                pictures.append(slice_picture(image, view.label, plane=plane, index=index, **options))
        text = f"{MODALITIES[code].long_name}: axial slice plain, then axial, coronal and sagittal with contours"
        strips.append({"uri": data_uri(montage_png(pictures)), "text": text})
    return strips


def _entropy_picture(result: Result, slices: dict[Plane, int]) -> str | None:
    """The uncertainty over the first sequence, in three planes."""
    view = result.view
    if view.doubt is None:
        return None
    first, image = next(iter(view.images.items()))
    options: dict[str, Any] = {
        "box": view.box,
        "spacing_mm": view.geometry.spacing_mm,
        "limits": view.limits[first],
    }
    pictures = [
        heat_picture(image, view.doubt, from_value=COLOURED, plane=plane, index=index, **options)
        for plane, index in slices.items()
    ]
    return data_uri(montage_png(pictures))


def _trust_part(result: Result) -> dict[str, Any]:
    """What a calibration says of the study."""
    expected = expected_rows(result.trust)
    return {
        "expected": expected,
        "n": max((row["n"] for row in expected), default=0),
        "sentences": trust_sentences(result.trust, result.spec),
        "gain": gain_rows(result.trust),
    }


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
