"""Damaged inputs of ten kinds: each gives a result or one line, leaves nothing behind and changes no result silently.

`make test` tries a few of each kind, always the same; `make fuzz` tries many new ones, each in a process of its own,
and counts what became of them. `tools/fuzz_campaign.py` writes the page of results.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from random import Random

import nibabel as nib
import numpy as np
import other_content
import pytest
from damaged_inputs import FAULTS, Bench, Verdict
from good_inputs import INPUTS, KINDS, Input
from hypothesis import HealthCheck, Phase, configuration, given, settings
from hypothesis import strategies as st

#: Inputs of each kind in `make fuzz`; 0 = the short test.
MANY = int(os.environ.get("FUZZ_INPUTS", "0"))
FEW = 12


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("fuzz")
    configuration.set_hypothesis_home_dir(folder / "hypothesis")  # nothing in the checkout
    return Bench(folder, forked=bool(MANY))


def faults(bench: Bench, item: Input, random: Random) -> Verdict:
    """Damage an input and judge what comes of it."""
    bench.expected(item)
    place = bench.folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    damage = bench.damage(item, random, place)
    verdict = bench.judge(item, place, damage)
    assert verdict.what not in FAULTS, (
        f"{item.kind} [{item.name}] {damage.text[:300]}: {verdict.what}: {verdict.text[-2000:]}"
    )
    return verdict


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_told(bench: Bench, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = [item for item in INPUTS if item.kind == kind and (MANY or item.quick)]
    counts: Counter[str] = Counter()

    @settings(
        max_examples=MANY or FEW, derandomize=not MANY, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(item=st.sampled_from(items), random=st.randoms(use_true_random=False))
    def every(item: Input, random: Random) -> None:
        counts[faults(bench, item, random).what] += 1

    every()
    assert counts.total() >= (MANY or FEW) // 2
    if MANY:
        with capsys.disabled():
            print(f"\n{kind:12}", ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


def test_what_is_another_good_file_and_what_is_damage() -> None:
    """The rules of docs/results/damaged-inputs.md; no damage breaks the judge itself."""
    table = b"participant_id\tsite\nsub-01\tBern\n"
    assert other_content.table(table, table.replace(b"Bern", b"Bonn"))
    assert not other_content.table(table, table.replace(b"site", b"si\0e"))
    image = b"ObjectType = Image\nOffset = %s\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nElementSpacing = 7 7 7\n"
    image += b"DimSize = 2 2 2\nElementType = MET_SHORT\nElementDataFile = x.raw\n"
    assert other_content.text_image(image % b"0 0 0", image % b"99 0 0")
    assert not other_content.text_image(image % b"0 0 0", image % b"65536 0 0")
    assert not other_content.text_image(image % b"0 0 0", (image % b"0 0 0").replace(b"Offset", b"Offsat"))
    run = (
        b"method: {config: {width: 2}}\ntraining: {epochs: 1, steps_per_epoch: 1, batch_size: 1, patch: [16, 16, 16]}\n"
    )
    assert other_content.more_work(run, run.replace(b"epochs: 1", b"epochs: 9"))
    assert not other_content.more_work(run, run)
    assert not other_content.more_work(run, b"training: {epochs: .nan}\n")
    assert other_content.more_work(run, b"[]\n"), "nothing said is the default, which takes long"
    long = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    long.set_qform(np.eye(4), 1)
    long.set_sform(None, 0)
    good = long.to_bytes()
    long.header["quatern_b"] = 1e38
    assert not other_content.nifti(good, long.header.binaryblock + good[348:])
