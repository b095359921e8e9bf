"""The study report: what is said first, which slices are shown, and that it needs nothing else."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from anymri.data.geometry import Geometry
from anymri.inference.output.completed_part import completed_part
from anymri.inference.output.first_line import first_line
from anymri.inference.output.report import lesion_places, study_page
from anymri.inference.output.result import Result, View
from anymri.inference.output.scroll import make_scroll
from anymri.inference.output.write import write_result
from anymri.inference.trust.completion import judge_completion
from anymri.types import GLIOMA
from anymri.zoo.card import ModelCard

SHAPE = (40, 44, 36)


def make_result(label, available=("t1", "flair"), **changes):
    """A result of a made-up study: a ball of brain with the given label map."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij"))
    brain = (grid**2).sum(0) < 0.9
    values = 100 + 20 * np.random.default_rng(0).random(SHAPE)
    image = np.where(brain, values, 0).astype(np.float32)
    geometry = Geometry(np.diag([1.0, 1.0, 1.0, 1.0]), SHAPE[::-1])
    unknown = {} if "t1c" in available else {"enhancing_tumor": "needs T1c, which was not given; a guess"}
    facts = {
        "name": "case 7",
        "volumes_ml": {"whole_tumor": 1.0, "tumor_core": 0.5, "enhancing_tumor": 0.25} | dict.fromkeys(unknown),
        "unknown": unknown,
        "available": available,
        "missing": tuple(code for code in GLIOMA.modalities if code not in available),
        "label_values": dict(GLIOMA.labels),
        "trust": {"regions": {}, "measured": None},
        "warnings": (),
        "provenance": {
            "model": "some",
            "inputs": {code: {"name": f"{code}.nii.gz", "sha256_of_voxels": ""} for code in available},
        },
        "spec": GLIOMA,
        "view": View(
            images=dict.fromkeys(available, image), label=label, completed={},
            probability={"whole_tumor": (label != 0).astype(np.float32)},
            entropy=0.5 * (label != 0).astype(np.float32), geometry=geometry,
        ),
    }  # fmt: skip
    return Result(**{**facts, **changes})


def lesions(*boxes):
    """Label map of boxes: (value, first corner, size)."""
    label = np.zeros(SHAPE, np.uint8)
    for value, corner, size in boxes:
        label[tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))] = value
    return label


@pytest.fixture
def low():
    """Measured numbers that say: do not trust this."""
    score = {"mean": 0.2, "median": 0.2, "n": 7, "without": 0, "left_empty": 0, "false_ml": None}
    return {"on": "seven cases", "regions": {"whole_tumor": score}, "low": ["whole_tumor"]}


def test_the_low_sentence_is_a_banner_above_everything_else(low):
    sentence = "Not usable from T1 alone: this model misses most tumours (median Dice 0.20 on 7 unseen patients)."
    result = make_result(lesions((2, (10, 10, 10), (6, 6, 6))), ("t1",), trust={"regions": {}, "measured": low})
    result = replace(result, warnings=(sentence + " Do not use its outline or its volumes.", "T1 is cut off."))
    page = study_page(result)
    body = page[page.index("<body>") :]
    assert body.index('class="banner"') < body.index("For research use only") < body.index("T1 is cut off.")
    assert body.count(sentence) == 1
    assert 'class="banner"' not in study_page(make_result(lesions((2, (10, 10, 10), (6, 6, 6)))))


def test_an_unknown_region_has_no_number_and_its_colour_is_called_a_guess():
    label = lesions((2, (10, 10, 10), (12, 12, 12)), (3, (14, 14, 14), (3, 3, 3)))
    page = study_page(make_result(label))
    row = page[page.index("<td>Enhancing tumour</td>") :].split("</tr>")[0]
    assert "unknown" in row
    assert "needs T1c" in row
    assert "(value 3; a guess)" in page
    with_t1c = study_page(make_result(label, ("t1c",)))
    assert "a guess)" not in with_t1c
    assert "unknown</td>" not in with_t1c


def test_slices_go_through_the_largest_lesion_of_each_region():
    scattered = [(2, (8 + 3 * number, 8, 8), (1, 6, 6)) for number in range(6)]  # more in one plane than the lesion
    big, elsewhere = (2, (22, 20, 14), (10, 14, 14)), (3, (12, 30, 22), (4, 4, 4))
    places = lesion_places(make_result(lesions(*scattered, big, elsewhere), ("t1c",)))
    assert [place.title.rpartition("the ")[2] for place in places] == ["whole tumour", "enhancing tumour"]
    for place, (_, corner, size) in zip(places, (big, elsewhere), strict=True):
        for index, start, length in zip(place.slices.values(), corner, size, strict=True):
            assert start <= index < start + length


def test_a_region_that_is_seen_already_has_no_second_pictures():
    label = lesions((2, (10, 10, 10), (14, 14, 14)), (3, (10, 10, 10), (10, 10, 10)))
    assert len(lesion_places(make_result(label, ("t1c",)))) == 1
    unknown = lesions((2, (22, 20, 14), (10, 14, 14)), (3, (12, 30, 22), (4, 4, 4)))
    titles = [place.title for place in lesion_places(make_result(unknown))]
    assert not any("enhancing" in title for title in titles), "what is unknown is not pointed at"


def test_nothing_segmented_shows_the_middle_of_the_brain():
    (place,) = lesion_places(make_result(lesions()))
    assert place.title == "Through the middle of the brain"
    assert place.slices == {"axial": 19, "coronal": 21, "sagittal": 17}


def test_every_slice_with_brain_can_be_scrolled_to():
    result = make_result(lesions((2, (20, 10, 10), (6, 6, 6))))
    scroll = make_scroll(result.view, GLIOMA, first=22)
    filled = np.flatnonzero((result.view.images["t1"] != 0).any(axis=(1, 2)))
    assert set(filled + 1) <= set(scroll.slices)
    assert scroll.slices[scroll.first] == 23
    assert scroll.columns * scroll.rows >= len(scroll.slices)
    assert list(scroll.sheets) == ["t1", "flair"]
    assert scroll.of == SHAPE[0]


def test_the_page_stands_alone_and_names_study_and_scale():
    page = study_page(make_result(lesions((2, (10, 10, 10), (6, 6, 6))), name="<scan 3>"))
    assert "Study report: &lt;scan 3&gt;" in page
    assert "always looks for a tumour" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in page
    assert re.search(r"linear-gradient\(to right, #000004.*#fcfdbf", page)
    for tick in ("0", "0.25", "0.5", "0.75", "1"):
        assert f'%">{tick}</span>' in page
    assert page == study_page(make_result(lesions((2, (10, 10, 10), (6, 6, 6))), name="<scan 3>"))


def test_left_and_right_are_claimed_only_where_they_are_known():
    result = make_result(lesions((2, (10, 10, 10), (6, 6, 6))))
    assert "the patient's right is on the left" in study_page(result)
    geometry = replace(result.view.geometry, orientation_known=False)
    page = study_page(replace(result, view=replace(result.view, geometry=geometry)))
    assert "the patient's right is on the left" not in page
    assert "left and right in these pictures are not known" in page


def test_probabilities_are_written_on_request(tmp_path):
    label = lesions((2, (10, 10, 10), (6, 6, 6)))
    plain = write_result(make_result(label), tmp_path / "plain")
    assert not list(plain.glob("probability*"))
    out = write_result(make_result(label), tmp_path / "more", probabilities=True)
    image = nib.load(out / "probability_whole_tumor.nii.gz")
    assert image.get_data_dtype() == np.float32
    # Nibabel's axes are (i, j, k) = (left to right, back to front, up) here.
    assert np.array_equal(np.asarray(image.dataobj), (label != 0).transpose(2, 1, 0))
    assert np.asarray(nib.load(out / "uncertainty.nii.gz").dataobj).max() == 0.5
    facts = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert facts["volumes_ml"] == {"whole_tumor": 1.0, "tumor_core": 0.5, "enhancing_tumor": None}
    assert facts["unknown"]["enhancing_tumor"].startswith("needs T1c")
    assert facts["study"] == "case 7"


def score(gain, **changes):
    """Fields of a `CompletionScore` whose three gains over a copy are the same."""
    facts = {"n": 13, "copied": "t1", "mae": 0.4, "mae_tumor": 0.9, "p90": 1.1, "error_by_value": [0.8] * 4 + [0.2] * 4}
    metrics = ("psnr", "ssim", "psnr_tumor")
    return facts | {metric: [20.0, 19.0] for metric in metrics} | {f"gain_{m}": list(gain) for m in metrics} | changes


def completing(result, choice, gain):
    """A result whose model completes T2, with what was measured of it."""
    entry = {"measured_on": "thirteen cases", "by_target": {"t2": {"t1+flair": score(gain)}}}
    card = ModelCard(
        name="some", method="unet", summary="", modalities=GLIOMA.modalities, data="", seed=0, command="", licence="",
        limits="", numbers={"completion": entry}, path=Path("some.safetensors"),
    )  # fmt: skip
    judged = judge_completion(card, GLIOMA, result.available, choice)
    image = np.where(result.view.images["t1"] != 0, np.float32(0.5), 0)
    kept = {"t2": image} if judged["t2"]["kept"] else {}
    return replace(result, trust=result.trust | {"completion": judged}, view=replace(result.view, completed=kept))


def test_the_first_line_says_what_was_found_from_what_and_how_far_to_trust_it(low):
    label = lesions((2, (10, 10, 10), (6, 6, 6)))
    line = first_line(make_result(label))
    assert line.startswith("From T1 and FLAIR the model marked whole tumour 1.0 ml and tumour core 0.5 ml; ")
    assert line.count("how much enhancing tumour there is cannot be known") == 1
    assert line.endswith("was not measured.")
    measured = low | {"low": [], "regions": {"whole_tumor": low["regions"]["whole_tumor"] | {"median": 0.8}}}
    line = first_line(make_result(label, trust={"regions": {}, "measured": measured}))
    assert line.endswith("Median Dice on 7 unseen patients with these sequences: 0.80 for whole tumour.")
    bad = first_line(make_result(label, ("t1",), trust={"regions": {}, "measured": low}))
    assert bad.startswith("Not usable from T1 alone: this model misses")
    assert " ml" not in bad
    none = first_line(make_result(lesions(), volumes_ml={"whole_tumor": 0.0, "tumor_core": 0.0}, unknown={}))
    assert "marked no whole tumour, which does not mean that there is none" in none


def test_every_picture_of_a_completed_sequence_is_stamped():
    plain = make_result(lesions((2, (10, 10, 10), (6, 6, 6))))
    result = completing(plain, "always", (-1.0, -0.5, 0.1))
    (picture,) = completed_part(result, lesion_places(result)[0].slices)["pictures"]
    assert picture["text"].startswith("SYNTHETIC T2")
    drawn = np.asarray(Image.open(BytesIO(b64decode(picture["uri"].partition(",")[2]))).convert("RGB")).astype(int)
    amber = (drawn[..., 0] > 230) & (abs(drawn[..., 1] - 191) < 25) & (drawn[..., 2] < 40)
    columns = np.flatnonzero(amber.any(axis=0))
    assert len(np.unique(columns * 4 // drawn.shape[1])) == 4, "three planes and the map of errors"


@pytest.mark.parametrize(
    ("choice", "gain", "kept", "words"),
    [
        ("auto", (-1.0, -0.5, 0.1), False, "not given; not filled in: not shown to beat a copy"),
        ("always", (-1.0, -0.5, 0.1), True, "filled in (SYNTHETIC: not shown to beat a copy)"),
        ("auto", (0.1, 0.5, 1.0), True, "filled in (SYNTHETIC)"),
        ("never", (0.1, 0.5, 1.0), False, "not given; not filled in"),
    ],
)
def test_the_page_says_what_a_completed_sequence_is_worth(choice, gain, kept, words, tmp_path):
    result = completing(make_result(lesions((2, (10, 10, 10), (6, 6, 6)))), choice, gain)
    page = study_page(result)
    assert f"<td>{words}</td>" in page
    assert "better than T1 itself" in page
    assert ("not shown to be better than T1 itself" in page) == (gain[0] < 0)
    assert "Measured on thirteen cases" in page
    out = write_result(result, tmp_path / "out")
    names = {path.name for path in out.glob("completed/*")}
    files = {"t2_synthetic.nii.gz", "t2_synthetic.json", "t2_synthetic_error.nii.gz"}
    assert names == (files if kept else set())
    if kept:
        image = nib.load(out / "completed" / "t2_synthetic.nii.gz")
        assert bytes(image.header["descrip"]).startswith(b"SYNTHETIC T2")
        facts = json.loads((out / "completed" / "t2_synthetic.json").read_text(encoding="utf-8"))
        assert facts["beats_copying"] is (gain[0] > 0)
        errors = np.asarray(nib.load(out / "completed" / "t2_synthetic_error.nii.gz").dataobj)
        inside = np.asarray(image.dataobj) != 0
        assert (errors[~inside] == 0).all()
        np.testing.assert_allclose(errors[inside], 0.2, atol=1e-4)


def test_the_page_can_be_used_by_keyboard_and_read_aloud():
    page = study_page(make_result(lesions((2, (10, 10, 10), (6, 6, 6)))))
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all('alt="' in tag for tag in re.findall(r"<img [^>]*>", page))
    assert all('tabindex="0"' in tag for tag in re.findall(r'<div class="(?:scroll|strip)"[^>]*>', page))
    assert page.count("<main>") == 1


def test_the_first_printed_page_shows_every_sequence_and_the_doubt():
    page = study_page(make_result(lesions((2, (10, 10, 10), (6, 6, 6)))))
    first = page[page.index('class="on-paper"') : page.index('class="on-screen"')]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", first)
    assert captions == ["T1, axial", "FLAIR, axial", "T1, coronal", "T1, sagittal", "Where the model is unsure"]
