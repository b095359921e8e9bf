"""KDD-Net: the authors' numbers, who learns from incomplete subjects, and that two subjects are told apart."""

import pytest
import record_kdd_net as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters

from anymri.errors import UserError
from anymri.methods import StepContext
from anymri.methods.kdd_net import KDDNet, block_means, softened_divergence
from anymri.types import GLIOMA

ALL = torch.ones(2, 4, dtype=torch.bool)
OWN = GLIOMA.available(recording.CODES)[None].expand(2, -1)
SIZE = (8, 8, 12)


@pytest.fixture(scope="module")
def golden():
    return Golden("kdd_net")


@pytest.fixture(scope="module")
def imported(golden):
    entries = {"student": "student", "teacher1": "teacher.t1", "teacher2": "teacher.flair"}
    return KDDNet.import_state_dict({name: golden.filled(prefix) for name, prefix in entries.items()})


@pytest.fixture
def network():
    return build_preset(KDDNet, "tiny", subset="t1+flair", hidden=8)


def step(network, batch, turn="student"):
    return network.training_step(batch, StepContext(network.stages[turn == "student"], turn))


def recorded_batch(monkeypatch):
    """A batch whose features are the recorded ones."""
    monkeypatch.setattr("anymri.methods.kdd_net.block_means", lambda sources, blocks: recording.inputs())
    rows = torch.ones(recording.ROWS, 4, dtype=torch.bool)
    return make_batch(SIZE, rows, rows)._replace(class_label=torch.tensor(recording.LABELS))


# -------------------------------------------------------------------------------------------------- the authors' code


def test_every_module_has_the_authors_size(golden, imported):
    counts = {f"teacher.{code}": parameters(teacher) for code, teacher in imported.teachers.items()}
    assert {**counts, "student": parameters(imported.student)} == golden.parameters


def test_logits_are_the_authors(golden, imported):
    x = recording.inputs()
    with torch.inference_mode():
        made = {code: imported.teachers[code](x[:, i]) for i, code in enumerate(recording.CODES)}
        made["student"] = imported.student(x)
        swapped = imported.student(x.flip(1))
    for name, logits in made.items():
        torch.testing.assert_close(logits, torch.from_numpy(golden.values[f"logits.{name}"]), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(swapped, made["student"], atol=1e-2)


def test_losses_are_the_authors(golden, imported, monkeypatch):
    settings = {"temperature": recording.TEMPERATURE, "distillation_weights": (recording.ALPHA, recording.BETA)}
    monkeypatch.setattr(imported, "config", imported.config.build({**vars(imported.config), **settings}))
    batch = recorded_batch(monkeypatch)
    with torch.inference_mode():
        teachers, student = step(imported, batch, "teachers"), step(imported, batch)
    logs = {**teachers.logs, **student.logs, "student": student.loss}
    assert {name: float(value) for name, value in logs.items()} == pytest.approx(golden.losses(), rel=1e-4)


# ------------------------------------------------------------------------------------------------------- the claims


def test_a_subject_with_one_sequence_teaches_that_sequences_teacher_alone(network):
    network.eval()
    batch = make_batch(SIZE, torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]).bool(), OWN)
    both = batch._replace(class_label=torch.tensor([0, 1]))
    one = batch._replace(class_label=torch.tensor([0, -1]))
    gradients = {}
    for name, given in (("both", both), ("one", one)):
        network.zero_grad()
        step(network, given, "teachers").loss.backward()
        gradients[name] = {key: p.grad.clone() for key, p in network.teachers.named_parameters()}
    for key, gradient in gradients["both"].items():
        assert torch.equal(gradient, gradients["one"][key]) == key.startswith("flair"), key
    absent = make_batch(SIZE, torch.tensor([[1, 0, 0, 0]]).bool(), OWN[:1])
    assert set(step(network, absent, "teachers").logs) == {"teacher_t1"}


def test_without_soft_labels_plain_cross_entropy_is_left():
    network = build_preset(KDDNet, "tiny", subset="t1+flair", hidden=8, distillation_weights=(0.0,)).eval()
    output = step(network, make_batch(SIZE, ALL, OWN)._replace(class_label=torch.tensor([0, 1])))
    assert torch.equal(output.loss.detach(), output.logs["cross_entropy"])
    assert output.logs["distillation_t1"] > 0


def test_each_teacher_has_its_weight_and_further_ones_the_last():
    network = build_preset(KDDNet, "tiny", hidden=8, distillation_weights=(2.0, 3.0)).eval()
    output = step(network, make_batch(SIZE, ALL, ALL)._replace(class_label=torch.tensor([0, 1])))
    logs = output.logs
    expected = logs["cross_entropy"] + 2 * logs["distillation_t1"]
    expected = expected + 3 * sum(logs[f"distillation_{code}"] for code in ("t1c", "t2", "flair"))
    torch.testing.assert_close(output.loss.detach(), expected)


def test_divergence_by_hand():
    # At T = 2 the teacher says 1/4, 3/4 and the student 1/2, 1/2.
    teacher, student = 2 * torch.log(torch.tensor([[1.0, 3.0]])), torch.zeros(1, 2)
    expected = 4 * (0.25 * torch.log(torch.tensor(0.5)) + 0.75 * torch.log(torch.tensor(1.5)))
    torch.testing.assert_close(softened_divergence(student, teacher, 2.0), expected)
    assert softened_divergence(teacher, teacher, 2.0) == 0
    torch.testing.assert_close(softened_divergence(2 * student, 2 * teacher, 4.0), 4 * expected)


def test_teachers_rest_while_their_student_learns(network):
    batch = make_batch(SIZE, ALL, OWN)._replace(class_label=torch.tensor([0, 1]))
    step(network.eval(), batch).loss.backward()
    assert all(parameter.grad is None for parameter in network.teachers.parameters())


def test_block_means_by_hand():
    image = torch.arange(2.0 * 4 * 4 * 4).reshape(1, 2, 4, 4, 4)
    means = block_means(image, 2)
    assert means.shape == (1, 2, 8)
    assert means[0, 1, 7] == image[0, 1, 2:, 2:, 2:].mean()


def test_a_class_beyond_the_settings_is_refused(network):
    batch = make_batch(SIZE, ALL, OWN)._replace(class_label=torch.tensor([0, 2]))
    with pytest.raises(UserError, match=r"method.config.classes = 2: the cohort has class number 2; set it"):
        step(network, batch)


def test_teachers_and_student_learn_to_tell_subjects_apart(network):
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    rows = torch.ones(6, 4, dtype=torch.bool)
    batch = make_batch(SIZE, rows, OWN[:1].expand(6, -1))._replace(class_label=labels)
    for stage in network.stages:
        groups = network.turns(stage)[stage.name]
        optimizer = torch.optim.Adam(groups, lr=1e-2)
        network.eval()
        network.get_submodule(stage.name).train()
        for _ in range(60):
            optimizer.zero_grad()
            step(network, batch, stage.name).loss.backward()
            optimizer.step()
    network.eval()
    predicted = network.predict(batch.image, batch.available).class_logits.argmax(dim=1)
    assert torch.equal(predicted, labels)
