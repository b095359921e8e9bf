"""KD-Net: each term of its loss by hand, what it teaches, and what the weights do."""

from dataclasses import replace

import pytest
import torch
from conftest import build_preset, make_batch

from anymri.methods import StepContext
from anymri.methods.kd_net import KDNet, dice_and_cross_entropy, latent_divergence
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
OWN = GLIOMA.available(("t1c",))[None]


@pytest.fixture
def network():
    return build_preset(KDNet, "tiny", subset="t1c", widths=(4, 5, 6)).eval()


@pytest.fixture
def batch():
    return make_batch((8, 8, 12), ALL, OWN)


def student_step(network, batch):
    return network.training_step(batch, StepContext(network.stages[1], "student"))


def moved(network):
    return {
        name.split(".")[1]
        for name, parameter in network.student.named_parameters(prefix="student")
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


def test_dice_and_cross_entropy_by_hand():
    target = torch.tensor([[1.0, 0.0], [0.25, 0.25]]).reshape(1, 2, 1, 1, 2)
    logits = torch.log(torch.tensor([[3.0, 1.0], [1.0, 1.0]])).reshape(1, 2, 1, 1, 2)
    # Probabilities 3/4, 1/2 and 1/2, 1/2.
    dice = ((1 - 1.5 / (13 / 16 + 1)) + (1 - 0.5 / (0.5 + 0.125))) / 2
    entropy = -(torch.log(torch.tensor(0.75)) + 3 * torch.log(torch.tensor(0.5))) / 4
    assert float(dice_and_cross_entropy(logits, target)) == pytest.approx(dice + float(entropy), rel=1e-5)


def test_soft_labels_are_met_where_the_loss_is_least():
    soft = torch.rand(1, 3, 4, 4, 4) * 0.8 + 0.1
    logits = soft.logit().requires_grad_()
    dice_and_cross_entropy(logits, soft).backward()
    assert logits.grad.abs().max() < 1e-6
    met = dice_and_cross_entropy(logits, soft)
    for change in (0.2, -0.2, 0.2 * torch.randn_like(soft)):
        assert dice_and_cross_entropy(logits + change, soft) > met


def test_latent_divergence_by_hand_has_the_teacher_as_target():
    # Softmax: (1/4, 3/4) of the teacher, (1/2, 1/2) of the student.
    teacher, student = torch.log(torch.tensor([[1.0, 3.0]])), torch.zeros(1, 2)
    expected = 0.25 * torch.log(torch.tensor(0.5)) + 0.75 * torch.log(torch.tensor(1.5))
    torch.testing.assert_close(latent_divergence(teacher, student), expected)
    backwards = 0.5 * torch.log(torch.tensor(2.0)) + 0.5 * torch.log(torch.tensor(2 / 3))
    torch.testing.assert_close(latent_divergence(student, teacher), backwards)
    assert abs(expected - backwards) > 0.01


def test_rows_are_distributions_of_their_own():
    first, second = torch.randn(2, 3, 4, 2, 2, 2)
    alone = [latent_divergence(first[i : i + 1], second[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(latent_divergence(first, second), torch.stack(alone).mean())


def test_a_student_that_equals_its_teacher_has_nothing_latent_to_learn(batch):
    network = build_preset(KDNet, "tiny", widths=(4, 5, 6)).eval()
    network.student.load_state_dict(network.teacher.state_dict())
    logs = student_step(network, batch).logs
    assert float(logs["latent"]) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        soft = (network.predict(batch.image, ALL).logits / 10).sigmoid()
    entropy = -(soft * soft.log() + (1 - soft) * (1 - soft).log()).mean()
    assert float(logs["distillation"]) == pytest.approx(float(entropy), rel=1e-4)


def test_the_loss_is_the_weighted_sum_and_without_distillation_the_baseline(network, batch):
    output = student_step(network, batch)
    logs = output.logs
    expected = 0.75 * logs["distillation"] + 0.25 * logs["ground_truth"] + 2 * logs["latent"]
    torch.testing.assert_close(output.loss.detach(), expected)
    network.config = replace(network.config, distillation_share=0.0, latent_weight=0.0)
    baseline = student_step(network, batch)
    assert torch.equal(baseline.loss, baseline.logs["ground_truth"])
    assert torch.equal(baseline.loss.detach(), logs["ground_truth"])


def test_the_bottleneck_teaches_the_way_down_alone(network, batch):
    network.config = replace(network.config, distillation_share=0.0, latent_weight=1e3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anymri.methods.kd_net.dice_and_cross_entropy", lambda logits, target: 0 * logits.sum())
        student_step(network, batch).loss.backward()
    assert moved(network) == {"down"}
    network.zero_grad()
    student_step(network, batch).loss.backward()
    assert moved(network) == {"down", "enlarge", "up", "heads"}


def test_the_teacher_learns_nothing_from_its_student(network, batch):
    student_step(network, batch).loss.backward()
    assert all(parameter.grad is None for parameter in network.teacher.parameters())
    for stage in network.stages:
        trained = {id(p) for groups in network.turns(stage).values() for group in groups for p in group["params"]}
        assert trained == {id(p) for p in network.get_submodule(stage.name).parameters()}


def test_temperature_softens_both_sides_of_the_distillation_alone(network, batch):
    usual = student_step(network, batch).logs
    with torch.no_grad():
        z_t = network._segment(network.teacher, batch.image).logits
        z_s = network.predict(batch.image, OWN).logits
    for soften, divisor in ((True, 3.0), (False, 1.0)):
        network.config = replace(network.config, temperature=3.0, soften_student=soften)
        logs = student_step(network, batch).logs
        expected = dice_and_cross_entropy(z_s / divisor, (z_t / 3).sigmoid())
        torch.testing.assert_close(logs["distillation"], expected)
        assert torch.equal(logs["ground_truth"], usual["ground_truth"])
