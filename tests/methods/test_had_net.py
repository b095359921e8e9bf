"""HAD-Net: the authors' numbers, what the discriminator looks at, and when it learns."""

from dataclasses import replace

import pytest
import record_had_net as recording
import torch
from conftest import build_preset, make_batch
from named_numbers import sample
from parity import Golden, parameters
from recorder import images, label

from anymri.methods import StepContext
from anymri.methods.had_net import HADNet, HADNetConfig, class_weights, weighted_cross_entropy
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
OWN = GLIOMA.available(("t1", "t2", "flair"))[None]
TO_OURS = [recording.ORDER.index(code) for code in GLIOMA.modalities]
WEIGHTS = torch.tensor(recording.WEIGHTS)


@pytest.fixture(scope="module")
def golden():
    return Golden("had_net")


@pytest.fixture(scope="module")
def image():
    return images(recording.ORDER, recording.SIZE)[:, TO_OURS]


@pytest.fixture(scope="module")
def imported(golden):
    entries = {"student": "t1+t2+flair", "teacher": "teacher", "discriminator": "discriminator"}
    return HADNet.import_state_dict({name: golden.filled(prefix) for name, prefix in entries.items()})


@pytest.fixture
def network():
    return build_preset(HADNet, "tiny", subset="t1+t2+flair", width=2).eval()


@pytest.fixture
def batch():
    return make_batch((32, 32, 32), ALL, OWN)


def last_stage(network, turn, **shared):
    return StepContext(network.stages[-1], turn, shared=shared)


# -------------------------------------------------------------------------------------------------- the authors' code


def test_every_module_has_the_authors_size(golden):
    with torch.device("meta"):
        network = HADNet(HADNetConfig(subset="t1+t2+flair"))
    assert {name: parameters(network.get_submodule(name)) for name in golden.parameters} == golden.parameters


@pytest.mark.parametrize("subset", recording.SUBSETS)
def test_logits_and_features_of_each_student_are_the_authors(golden, image, subset):
    student = HADNet.import_state_dict(golden.filled(subset), f"official:{subset}")
    with torch.inference_mode():
        made = student.student(student.take_own(image, ALL))
        predicted = student.predict(image, GLIOMA.available(subset.split("+"))[None]).logits
    assert golden.difference(subset, predicted) <= 1e-4
    features = torch.from_numpy(sample(recording.joined(made.pairs)))
    torch.testing.assert_close(features, torch.from_numpy(golden.values[f"{subset}.pairs"]), atol=1e-4, rtol=1e-4)


def test_the_teacher_is_the_authors_and_names_its_channels(golden, imported, image):
    with torch.inference_mode():
        assert golden.difference("teacher", imported.teacher(image).logits) <= 1e-4
        assert golden.difference("teacher", imported.teacher(image[:, [1, 0, 2, 3]]).logits) > 1e-2


def test_losses_are_the_authors(golden, imported, image):
    batch = make_batch((recording.SIZE,) * 3, ALL, OWN)._replace(image=image, label=label(recording.SIZE))
    context = last_stage(imported, "student")
    with torch.inference_mode():
        student = imported.training_step(batch, context)
        judged = imported.training_step(batch, last_stage(imported, "discriminator", **context.shared))
    expected = golden.losses()
    for name, value in {**student.logs, **judged.logs, "student": student.loss}.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-4), name
    assert {"cross_entropy", "adversarial", "discriminator_teacher", "discriminator_student"} == {
        *student.logs,
        *judged.logs,
    }
    assert expected["right"] <= imported.config.gate
    both = expected["discriminator_teacher"] + expected["discriminator_student"]
    assert float(judged.loss) == pytest.approx(both, rel=1e-4)


# ------------------------------------------------------------------------------------------------------- the claims


def test_the_discriminator_judges_the_features_of_every_level(network, batch):
    sources = network.take_own(batch.image, ALL)
    with torch.no_grad():
        made = network.student(sources)
        score = network.discriminator(made, sources)
        assert [tuple(f.shape[1:3]) for pair in made.pairs for f in pair] == [
            (4, 16), (4, 8), (8, 8), (8, 4), (16, 4), (16, 2),
        ]  # fmt: skip
        for level in range(3):
            for member in range(2):
                pairs = [list(pair) for pair in made.pairs]
                pairs[level][member] = pairs[level][member].flip(1)
                assert not torch.allclose(network.discriminator(made._replace(pairs=pairs), sources), score)


def test_the_scores_of_a_window_of_64_are_a_map(network):
    made = network.student(torch.randn(1, 3, 64, 64, 64))
    assert network.discriminator(made, torch.randn(1, 3, 64, 64, 64)).shape == (1, 1, 3, 3, 3)


def test_the_post_contrast_image_reaches_the_student_through_the_discriminator_alone(network, batch):
    other = batch._replace(image=torch.where(torch.tensor([0, 1, 0, 0]).reshape(1, 4, 1, 1, 1) > 0, 7.0, batch.image))
    with torch.no_grad():
        ours, theirs = (network.training_step(b, last_stage(network, "student")) for b in (batch, other))
        judged, judged_other = (network.training_step(b, last_stage(network, "discriminator")) for b in (batch, other))
    assert ours.logs == theirs.logs
    assert judged.logs["discriminator_student"] == judged_other.logs["discriminator_student"]
    assert judged.logs["discriminator_teacher"] != judged_other.logs["discriminator_teacher"]


def test_the_discriminator_sees_the_students_images_beside_either_segmentation(network, batch, monkeypatch):
    seen, judge = [], network.discriminator.forward
    monkeypatch.setattr(
        network.discriminator, "forward", lambda made, sources: seen.append(sources) or judge(made, sources)
    )
    network.training_step(batch, last_stage(network, "discriminator"))
    assert len(seen) == 2
    assert all(torch.equal(sources, batch.image[:, [0, 2, 3]]) for sources in seen)


@pytest.mark.parametrize(("real", "fake", "learns"), [(1.0, 0.0, False), (0.0, 0.0, True), (1.0, 1.0, True)])
def test_the_discriminator_rests_while_it_is_right_too_often(network, batch, monkeypatch, real, fake, learns):
    scores = iter([real, fake])
    bias = next(network.discriminator.parameters()).sum()
    monkeypatch.setattr(network.discriminator, "forward", lambda made, sources: 0 * bias + next(scores))
    assert (network.training_step(batch, last_stage(network, "discriminator")).loss is not None) == learns


def test_the_teacher_rests_unless_released_behaviour_is_asked_for(network, batch):
    def teacher_terms(asked):
        network.config = replace(network.config, teacher_dropout=asked)
        return [
            float(network.training_step(batch, last_stage(network, "discriminator")).logs["discriminator_teacher"])
            for _ in range(2)
        ]

    network.train()
    first, second = teacher_terms(False)
    assert first == second
    first, second = teacher_terms(True)
    assert first != second


def test_each_stage_trains_its_network_alone(network):
    names = {id(p): name.partition(".")[0] for name, p in network.named_parameters()}
    trained = {
        stage.name: {
            turn: {names[id(p)] for group in groups for p in group["params"]}
            for turn, groups in network.turns(stage).items()
        }
        for stage in network.stages
    }
    assert trained == {
        "teacher": {"teacher": {"teacher"}},
        "student": {"student": {"student"}},
        "distillation": {"student": {"student"}, "discriminator": {"discriminator"}},
    }


def test_class_weights_fall_to_one_and_further_labels_have_the_last():
    torch.testing.assert_close(class_weights(recording.WEIGHTS, 0.98, 0, 4), WEIGHTS)
    torch.testing.assert_close(class_weights(recording.WEIGHTS, 0.98, 10, 4)[2], torch.tensor(23.3190 * 0.98**10))
    assert class_weights(recording.WEIGHTS, 0.98, 399, 4).tolist() == [1.0] * 4
    assert class_weights(recording.WEIGHTS, 0.98, 0, 6)[-2:].tolist() == [pytest.approx(71.8481)] * 2
    assert class_weights(recording.WEIGHTS, 0.98, 0, 2).tolist() == [1.0, pytest.approx(59.4507)]


def test_cross_entropy_is_a_mean_by_weight_and_leaves_unknown_voxels_out():
    logits, truth = torch.randn(2, 4, 3, 3, 3), torch.randint(0, 4, (2, 3, 3, 3))
    target = torch.nn.functional.one_hot(truth, 4).movedim(-1, 1).float()
    expected = torch.nn.functional.cross_entropy(logits, truth, WEIGHTS)
    torch.testing.assert_close(weighted_cross_entropy(logits, target, WEIGHTS), expected)
    target[0, :, 0] = torch.nan
    known = truth.clone()
    known[0, 0] = -100
    expected = torch.nn.functional.cross_entropy(logits, known, WEIGHTS)
    torch.testing.assert_close(weighted_cross_entropy(logits, target, WEIGHTS), expected)
