"""Every pathology: what holds for all of them, and what makes each what it is."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from anymri.data.datasets import get_dataset
from anymri.errors import UserError
from anymri.phantom import PhantomSettings, make_subject
from anymri.phantom.anatomy import draw_shape, render_anatomy
from anymri.phantom.artifacts import ARTIFACTS
from anymri.phantom.pathology import COMPARTMENTS, PATHOLOGY_TABLE
from anymri.phantom.pathology.glioma import plan_glioma
from anymri.phantom.pathology.metastases import draw_count, plan_metastases
from anymri.phantom.settings import PATHOLOGIES
from anymri.types import DataSpec

SPACING_MM = 4.0
VOXEL_ML = SPACING_MM**3 / 1000


def grow(name, seed, **settings):
    """Anatomy, plan and tissue of one subject, without the images."""
    chosen = PhantomSettings(spacing_mm=SPACING_MM, pathology=name, **settings)
    first, second = (np.random.default_rng([seed, part]) for part in (0, 1))
    shape = draw_shape(first, SPACING_MM)
    row = PATHOLOGY_TABLE[name]
    plan = row.plan(second, shape, chosen)
    anatomy = render_anatomy(first, shape, plan.push_mm if plan is not None else None)
    return anatomy, plan, row.grow(second, plan, anatomy, chosen)


def ml(region):
    return float(region.sum()) * VOXEL_ML


def test_the_settings_know_every_pathology():
    assert tuple(PATHOLOGY_TABLE) == PATHOLOGIES


@pytest.mark.parametrize("name", PATHOLOGIES)
def test_shares_and_labels_hold_together(name):
    _, _, tissue = grow(name, 1)
    total = sum(tissue.shares.values())
    np.testing.assert_allclose(total[tissue.brain], 1, atol=1e-9)
    np.testing.assert_array_equal(total[~tissue.brain], 0)
    assert min(share.min() for share in tissue.shares.values()) >= -1e-12
    assert list(tissue.shares) == [part for part in COMPARTMENTS if part in tissue.shares]
    row = PATHOLOGY_TABLE[name]
    assert set(np.unique(tissue.label)) <= {0, *row.labels.values()}
    assert tissue.label.any() == (name != "none")
    assert not tissue.label[~tissue.brain].any()
    DataSpec(labels=row.labels, regions=row.regions)  # refuses regions of unknown labels


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("glioma", "brats2023"), ("glioma_resected", "brats2024"), ("metastases", "brats2023"),
        ("multiple_sclerosis", "msseg2016"), ("wmh", "wmh2017"), ("stroke", "isles2015_spes"),
    ],
)  # fmt: skip
def test_labels_are_those_of_the_layout_for_such_data(name, layout):
    spec, row = get_dataset(layout).spec, PATHOLOGY_TABLE[name]
    assert (spec.labels, spec.regions) == (row.labels, row.regions)


def test_a_low_grade_has_little_dead_or_enhancing_and_a_high_grade_both():
    for seed in range(3):
        _, plan, tissue = grow("glioma", seed, grade="high")
        assert plan.kind in ("rim", "partial")
        assert ml(tissue.label == 3) > 0.3
        solid = tissue.shares["solid"] + tissue.shares["enhancing"]
        assert tissue.shares["necrosis"].sum() > 0.15 * solid.sum()
        _, _, low = grow("glioma", seed, grade="low")
        alive = sum(low.shares[name].sum() for name in ("solid", "enhancing", "microcystic"))
        assert low.shares["necrosis"].sum() < 0.12 * alive
        assert low.shares["microcystic"].sum() > 0
    kinds = [grow("glioma", seed, grade="low")[1].kind for seed in range(8)]
    assert kinds.count("none") >= 5


def test_resection_leaves_a_cavity_open_to_the_surface():
    for seed in range(3):
        anatomy, _, tissue = grow("glioma_resected", seed)
        cavity = tissue.label == 4
        assert ml(cavity) > 1
        outside = ndimage.binary_dilation(~anatomy.brain, iterations=2)
        assert (outside & cavity).any()
        _, _, before = grow("glioma", seed)
        assert ml(np.isin(tissue.label, (1, 3))) < 0.6 * ml(np.isin(before.label, (1, 3)))


def test_plaques_crowd_at_the_ventricles_and_come_in_three_kinds():
    holes, active, near_lesion, near_white = 0.0, 0.0, [], []
    for seed in range(6):
        anatomy, _, tissue = grow("multiple_sclerosis", seed)
        lesion = tissue.label == 1
        drawn = tissue.parameters
        assert ml(lesion) == pytest.approx(drawn["load_ml"], rel=0.5, abs=1.0)
        assert sum(drawn["places"].values()) == drawn["lesions"]
        holes += tissue.shares["black_hole"].sum()
        active += tissue.shares["active"].sum()
        distance_mm = ndimage.distance_transform_edt(anatomy.ventricle < 0.3) * SPACING_MM
        near_lesion.append(np.median(distance_mm[lesion]))
        near_white.append(np.median(distance_mm[anatomy.white > 0.7]))
    assert holes > 0
    assert active > 0
    assert np.mean(near_lesion) < 0.6 * np.mean(near_white)


def test_hyperintensities_have_the_drawn_volume_and_hug_the_ventricles():
    for seed in range(3):
        anatomy, _, tissue = grow("wmh", seed)
        lesion = tissue.label == 1
        lacunes = 0.3 * tissue.parameters["lacunes"]
        assert ml(lesion) == pytest.approx(tissue.parameters["volume_ml"], rel=0.02, abs=0.1 + lacunes)
        distance_mm = ndimage.distance_transform_edt(anatomy.ventricle < 0.3) * SPACING_MM
        assert np.median(distance_mm[lesion]) < 0.6 * np.median(distance_mm[anatomy.white > 0.7])


@pytest.mark.parametrize("name", ["stroke", "stroke_subacute"])
def test_a_stroke_keeps_to_one_side_and_to_its_volumes(name):
    for seed in range(4):
        anatomy, plan, tissue = grow(name, seed)
        core, penumbra = tissue.label == 2, tissue.label == 1
        assert ml(core) == pytest.approx(plan.core_ml, rel=0.05, abs=0.1)
        assert ml(penumbra) <= plan.penumbra_ml * 1.02 + 0.1
        assert (np.sign(anatomy.coordinates_mm[2][core | penumbra]) == plan.side).all()
        assert penumbra.any() == (name == "stroke")
        stage = "acute_core" if name == "stroke" else "subacute_core"
        assert tissue.shares[stage][core].mean() > 0.6


def test_without_perfusion_the_core_shows_and_the_penumbra_does_not():
    subject = make_subject(2, 3, PhantomSettings(spacing_mm=SPACING_MM, pathology="stroke"))
    flair = subject.images["flair"]
    core, penumbra, healthy = (subject.label == 2), (subject.label == 1), (subject.label == 0) & (flair > 0)
    spread = flair[healthy].std()
    assert flair[core].mean() - flair[healthy].mean() > 0.3 * spread
    assert abs(flair[penumbra].mean() - flair[healthy].mean()) < 0.3 * spread


def test_metastases_are_as_many_as_counted_in_patients():
    generator = np.random.default_rng(0)
    counts = np.array([draw_count(generator) for _ in range(4000)])
    for number, expected in enumerate((0.49, 0.21, 0.13, 0.06), start=1):  # Delattre 1988
        assert (counts == number).mean() == pytest.approx(expected, abs=0.025)
    assert counts.max() <= 30
    shape = draw_shape(generator, 8.0)
    plans = [plan_metastases(generator, shape) for _ in range(10)]
    diameters = np.concatenate([plan.parameters["diameters_mm"] for plan in plans])
    assert 4 <= diameters.min() < diameters.max() <= 45


def test_large_metastases_are_rings_in_oedema_and_small_ones_dots():
    seen = set()
    for seed in range(8):
        _, plan, tissue = grow("metastases", seed)
        largest = max(focus.radius_mm for focus in plan.foci)
        if largest > 9:
            assert (tissue.label == 1).any()
            assert (tissue.label == 2).any()
            seen.add("ring")
        if largest < 5:
            assert not (tissue.label == 1).any()
            seen.add("dot")
        assert "solid" not in tissue.shares  # every metastasis enhances
    assert seen == {"ring", "dot"}


def test_core_shares_are_drawn_evenly_on_a_logarithmic_scale():
    settings = PhantomSettings(spacing_mm=8.0, grade="high", core_share=(0.02, 0.5))
    shape, shares = draw_shape(np.random.default_rng(0), settings.spacing_mm), []
    for seed in range(40):
        plan = plan_glioma(np.random.default_rng(seed), shape, settings)
        shares.append(plan.core_ml / plan.whole_ml)
    assert 0.02 <= min(shares) < 0.04 < 0.3 < max(shares) <= 0.5
    assert 0.06 < np.median(shares) < 0.16  # 0.1 is halfway on a logarithmic scale


@pytest.mark.parametrize("shares", [(0.0, 0.5), (0.5, 0.2), (0.2, 1.0)])
def test_impossible_core_shares_are_refused(shares: tuple[float, float]):
    with pytest.raises(UserError, match="give two shares in"):
        PhantomSettings(core_share=shares)


def test_an_unknown_grade_is_refused():
    with pytest.raises(UserError, match="unknown grade 'IV'; choose one of mixed, low, high"):
        PhantomSettings(grade="IV")
    assert "grade" in [field.name for field in fields(PhantomSettings)]


def test_the_reference_page_names_every_pathology_and_artifact():
    page = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "phantom.md").read_text(encoding="utf-8")
    for name in [*PATHOLOGY_TABLE, *ARTIFACTS]:
        assert f"| `{name}` |" in page, name
