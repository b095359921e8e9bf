"""MAML: the authors' logits and losses, gates that see all that is there, and a modality alone."""

import pytest
import record_maml as recording
import torch
from conftest import build_preset, make_batch
from named_numbers import sample
from parity import Golden, parameters
from recorder import images, label

from anymri.errors import UserError
from anymri.methods import StepContext
from anymri.methods.maml import MAML, MAMLConfig
from anymri.types import GLIOMA, Batch

ALL = torch.ones(2, 4, dtype=torch.bool)


@pytest.fixture(scope="module")
def golden():
    return Golden("maml")


@pytest.fixture(scope="module")
def imported(golden):
    return MAML.import_state_dict(golden.filled("network"))


@pytest.fixture(scope="module")
def image():
    image = images(recording.ORDER, recording.SIZE)
    return torch.cat([image, image.flip(2)])


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_preset(MAML, "tiny", widths=(4, 6, 8)).eval()


def test_the_network_has_the_published_size(golden):
    with torch.device("meta"):
        method = MAML(MAMLConfig())
    assert parameters(method.branches) == golden.parameters["modality_specific_models"]
    assert parameters(method.gates) == golden.parameters["modality_aware_modules"]
    assert parameters(method) == sum(golden.parameters.values())


def test_joint_and_own_logits_are_the_authors(golden, imported, image):
    with torch.inference_mode():
        assert golden.difference("joint", imported.predict(image, ALL).logits) <= 1e-4
        features = imported.encode(image, ALL)
        for code in recording.ORDER:
            own = imported.branches[code].heads[-1](features[code])
            assert golden.difference(code, own) <= 1e-4
        swapped = imported.predict(image[:, [1, 0, 2, 3]], ALL).logits
        assert golden.difference("joint", swapped) > 1e-2


def test_gates_are_the_authors(golden, imported, image):
    caught = []
    imported.gates["t2"].register_forward_hook(lambda module, given, result: caught.extend([given[1], result]))
    with torch.inference_mode():
        imported.predict(image, ALL)
    assert golden.difference("h0", caught[0]) <= 1e-4
    assert abs(sample(caught[1]) - golden.values["t2.gate"]).max() <= 1e-5


def test_losses_are_the_authors(golden, imported, image):
    target = torch.cat([label(recording.SIZE), label(recording.SIZE).flip(1)])
    output = imported.training_step(
        Batch(image, target, ALL, ALL, torch.zeros(2, 4, 8)), StepContext(imported.stages[0])
    )
    expected = golden.losses()
    # Theirs is minus the Dice; 1 is added here to every level's, of weight 2/3 and 1/3, and to the joint one's of 2/3.
    added = {"joint_dice": 2 / 3, "alone_dice": 4.0}
    for name, value in output.logs.items():
        assert float(value) - added.get(name, 0) == pytest.approx(expected[name], rel=1e-4)
    assert output.loss.item() - 4 - 2 / 3 == pytest.approx(expected["total"], rel=1e-4)


# ------------------------------------------------------------------------------------------------------- the claims


def test_a_gate_weighs_a_modality_by_what_the_others_show(tiny):
    image = torch.randn(1, 4, 16, 16, 16)
    other = image.clone()
    other[:, 3] += torch.randn(16, 16, 16)
    caught = []
    tiny.gates["t1"].register_forward_hook(lambda module, given, result: caught.append(result))
    with torch.inference_mode():
        for shown, given in ((ALL[:1], image), (ALL[:1], other)):
            tiny.predict(given, shown)
    assert (caught[0] - caught[1]).abs().max() > 1e-3
    assert caught[0].min() > 0
    assert caught[0].max() < 1
    assert caught[0].shape == (1, 4, 16, 16, 16)


def test_with_open_gates_the_logits_are_those_of_the_mean_of_what_is_there(tiny):
    for gate in tiny.gates.values():
        torch.nn.init.zeros_(gate.second.weight)
        torch.nn.init.constant_(gate.second.bias, 40.0)
    image = torch.randn(1, 4, 16, 16, 16)
    with torch.inference_mode():
        features = tiny.encode(image, ALL[:1])
        for subset in (("flair",), ("t1", "t2"), GLIOMA.modalities):
            mean = torch.stack([features[code] for code in subset]).mean(dim=0)
            logits = tiny.predict(image, GLIOMA.available(subset)[None]).logits
            torch.testing.assert_close(logits, tiny.classifier(4 * mean))


def test_a_modality_that_is_not_shown_teaches_no_branch(tiny):
    batch = make_batch((16, 16, 16), ALL[:1], GLIOMA.available(("t1", "flair"))[None])
    tiny.training_step(batch, StepContext(tiny.stages[0])).loss.backward()
    reached = {code: any(p.grad is not None for p in branch.parameters()) for code, branch in tiny.branches.items()}
    assert reached == {"t1": True, "t1c": False, "t2": False, "flair": True}


def test_two_levels_are_no_u_net():
    with pytest.raises(UserError, match="too few levels for a U-Net"):
        MAML(MAMLConfig(widths=(4, 8)))
