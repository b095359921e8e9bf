"""Wider anatomy: what it changes, and that the frozen first version does not change with it."""

import numpy as np
import pytest

from anymri.errors import UserError
from anymri.phantom import PhantomSettings, make_subject
from anymri.phantom.anatomy import draw_shape, render_anatomy
from anymri.phantom.variation import NUCLEI, draw_variation


def stream(seed):
    return np.random.Generator(np.random.PCG64(seed))


def anatomy(seed, variation=None):
    """One brain at 4 mm."""
    generator = stream(seed)
    return render_anatomy(generator, draw_shape(generator, 4.0, variation), variation=variation)


def changed(variation, **values):
    """The same variation with some draws replaced."""
    for name, value in values.items():
        object.__setattr__(variation, name, value)
    return variation


def test_varied_brains_differ_more_than_plain_ones():
    plain = [anatomy(seed) for seed in range(12)]
    varied = [anatomy(seed, draw_variation(stream(100 + seed))) for seed in range(12)]

    def spread(brains):
        return np.std([brain.csf.sum() / brain.brain.sum() for brain in brains])

    assert spread(varied) > 1.3 * spread(plain)


def test_one_half_can_be_wider_and_further_forward():
    shares, places = [], []
    for sign in (-1, 1):
        brain = anatomy(1, changed(draw_variation(stream(5)), wider=0.15 * sign, torque_mm=12.0 * sign))
        right = brain.coordinates_mm[2] > 0
        shares.append(brain.brain[right].sum() / brain.brain.sum())
        front = [np.nonzero(brain.brain & half)[1].max() for half in (right, ~right)]
        places.append(front[0] - front[1])
    assert shares[1] > shares[0] + 0.03
    assert places[1] > places[0]


def test_deep_nuclei_become_what_was_drawn():
    variation = draw_variation(stream(3))
    for name, (middle, _, _) in NUCLEI.items():
        for side in (-1, 1):
            points = np.array([[middle[0]], [middle[1]], [side * middle[2]]])
            csf, grey, white = np.array([0.1]), np.array([0.2]), np.array([0.7])
            variation.add_nuclei(points, csf, grey, white)
            assert grey[0] == pytest.approx(0.9 * variation.nuclei[name])
            assert csf[0] + grey[0] + white[0] == pytest.approx(1)
    far = np.array([[60.0], [0.0], [0.0]])
    csf, grey, white = np.array([0.0]), np.array([0.2]), np.array([0.8])
    variation.add_nuclei(far, csf, grey, white)
    assert (grey[0], white[0]) == (0.2, 0.8)


def test_ventricles_follow_their_own_draw():
    volumes = []
    for push_mm in (-3.0, 15.0):
        volumes.append(anatomy(1, changed(draw_variation(stream(5)), ventricle_mm=push_mm)).ventricle.sum())
    assert volumes[1] > 1.5 * volumes[0]


def test_a_subject_says_what_was_drawn_and_stays_whole():
    settings = PhantomSettings(spacing_mm=4.0, anatomy="varied")
    first, again = make_subject(1, 2, settings), make_subject(1, 2, settings)
    assert all(np.array_equal(first.images[code], again.images[code]) for code in first.images)
    drawn = first.parameters["anatomy"]["variation"]
    assert set(drawn["nuclei"]) == set(NUCLEI)
    plain = make_subject(1, 2, PhantomSettings(spacing_mm=4.0))
    assert "variation" not in plain.parameters["anatomy"]
    assert not np.array_equal(plain.images["t1"], first.images["t1"])
    for index in range(6):  # the deformed brain still fits into the imaged volume, as far as the plain one does
        image = make_subject(4, index, settings).images["t1"] > 0
        assert not image[:, 0].any()
        assert not image[:, -1].any()
        assert not image[:, :, 0].any()
        assert not image[:, :, -1].any()


def test_an_unknown_anatomy_is_refused():
    with pytest.raises(UserError, match="unknown anatomy 'odd'"):
        PhantomSettings(anatomy="odd")
