"""The contract suite notices every leak by name, and nothing where there is none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from leaking_methods import NOTICED_BY, Clean, EarlyFusion, Staged, Tutored

from anymri.testing import CHECKS, Candidate, check_method
from anymri.testing.batches import POISONS, brains, make_batch, poison
from anymri.types import GLIOMA


@pytest.mark.parametrize("method", [Clean, EarlyFusion, Staged])
def test_a_method_that_leaks_nothing_passes(method):
    outcomes = check_method(method, quiet=True)
    assert [outcome.check for outcome in outcomes] == list(CHECKS)
    assert [outcome for outcome in outcomes if outcome.result == "failed"] == []


@pytest.mark.parametrize("method", NOTICED_BY, ids=lambda method: method.__name__)
def test_a_leak_is_noticed_by_name(method):
    (outcome,) = check_method(method, only=NOTICED_BY[method], quiet=True)
    assert outcome.result == "failed", outcome
    assert "Error" not in outcome.words, "it must run, and be caught"


def test_a_shared_teacher_that_is_the_same_for_every_subset_passes():
    (outcome,) = check_method(Tutored, only="a_shared_stage_is_the_same_for_every_subset", quiet=True)
    assert outcome.result == "passed", outcome


def test_a_method_that_uses_unlabelled_subjects_as_it_says_passes():
    class UsesThem(Clean):
        uses = ("unlabelled",)

    check = "rows_without_a_label_map_leave_loss_and_gradients_finite"
    assert [check_method(method, only=check, quiet=True)[0].result for method in (UsesThem, Clean)] == [
        "passed",
        "skipped",
    ]


def test_declaring_what_is_not_so_is_noticed():
    from dataclasses import replace

    class SaysMore(Clean):
        info = replace(Clean.info, learns_from_hidden={"dice": "no"}, couples_rows="no")

    for check in ("hidden_sequences_teach_only_where_declared", "rows_of_a_batch_do_not_meet"):
        (outcome,) = check_method(SaysMore, only=check, quiet=True)
        assert outcome.result == "failed"
        assert "info." in outcome.words


def test_the_window_has_few_voxels_where_the_network_takes_them():
    class NeedsSixteen(Clean):
        def training_step(self, batch, ctx):
            assert min(batch.image.shape[2:]) >= 16
            return super().training_step(batch, ctx)

    class NeedsTwelve(Clean):
        def training_step(self, batch, ctx):
            assert batch.image.shape[3] >= 12
            return super().training_step(batch, ctx)

    assert Candidate(Clean).size == Candidate(Clean).training_size == (8, 8, 12)
    for method, training_size in ((NeedsTwelve, (8, 16, 16)), (NeedsSixteen, (16, 16, 16))):
        candidate = Candidate(method)
        assert candidate.size == (8, 8, 12)
        assert candidate.training_size == training_size


@pytest.mark.parametrize("size", [(4, 32, 32), (8, 8, 12), (8, 16, 16), (16, 16, 16)])
def test_every_label_lies_in_every_window(size):
    everything = torch.ones(1, 4, dtype=torch.bool)
    batch = make_batch(size, everything, everything)
    assert batch.label.unique().tolist() == [0, *sorted(GLIOMA.labels.values())]


def test_a_term_teaches_if_any_parameter_learns_from_it():
    class Logs(Clean):
        term = staticmethod(lambda weights: weights[0].square().sum())

        def training_step(self, batch, ctx):
            output = super().training_step(batch, ctx)
            added = self.term([parameter for parameter in self.parameters() if parameter.ndim > 1])
            return output._replace(loss=output.loss + added, logs={**output.logs, "added": added.detach()})

    class TeachesNothing(Logs):
        term = staticmethod(lambda weights: 1 + 0 * sum(weight.sum() for weight in weights))

    class TeachesFarAway(Logs):
        # Only the first weights get a gradient, and all others are nearer to the term.
        @staticmethod
        def term(weights):
            first = weights[0]
            for _ in range(12):
                first = 1.1 * first
            return first.square().sum() + 0 * sum(weight.sum() for weight in weights[1:])

    check = "every_logged_loss_term_is_positive_and_teaches"
    assert [check_method(method, only=check, quiet=True)[0].words for method in (TeachesFarAway, TeachesNothing)] == [
        "",
        "added teaches no parameter",
    ]


def test_every_sequence_of_a_test_image_has_a_brain_of_its_own():
    everything = torch.ones(2, 4, dtype=torch.bool)
    image = make_batch((16,) * 3, everything, everything, background=True).image
    inside = (image != 0).flatten(0, 1)
    assert torch.equal(inside, brains(2, 4, (16,) * 3).flatten(0, 1))
    boxes = {(tuple(voxels.amin(0).tolist()), tuple(voxels.amax(0).tolist())) for voxels in map(torch.nonzero, inside)}
    assert len(boxes) == 8
    for kind in POISONS:
        row = torch.tensor([[True, False, True, False], [False] * 4])
        changed = poison(image, row, kind)
        assert torch.equal(changed[~row], image[~row])
        assert not torch.equal(changed[row], image[row])


def test_the_suite_prints_a_line_a_check_and_needs_no_pytest():
    code = (
        "import sys; from anymri.testing import check_method; check_method('threshold', only='says_who'); "
        "sys.exit('pytest' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "passed   a method says who it is\n"


def test_a_class_of_tests_runs_under_pytest(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "test_mine.py").write_text(
        "from anymri.testing import MethodContract\n\n\nclass TestMine(MethodContract):\n    name = 'threshold'\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    # Without those plug-ins that serve the whole process, which belongs to this test.
    without = [word for name in ("cacheprovider", "xdist", "timeout", "faulthandler") for word in ("-p", f"no:{name}")]
    code = pytest.main(["-q", *without, str(tmp_path)])
    out = capsys.readouterr().out
    assert code == 0, out
    passed, skipped = (int(re.search(rf"(\d+) {result}", out).group(1)) for result in ("passed", "skipped"))
    assert passed + skipped == len(CHECKS)
    assert min(passed, skipped) > 0, "a skipped check is reported as skipped"
