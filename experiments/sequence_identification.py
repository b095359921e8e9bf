"""Sequence identification among six kinds of image: held-back phantoms, what physics allows, enhancement of real pairs.

    python experiments/sequence_identification.py ../shared/data --subjects 100

Phantoms: the settings of `experiments/sequence_judge.py` with a seed that the judge was not fitted to; T1c counts as
T1, as tissue cannot tell. Physics: how often T2, PD, FLAIR, DWI and ADC are told apart from the noise-free brightness
of CSF and grey matter against white, drawn as the phantom draws them: no classifier that sees tissue alone does better.
Enhancement: of every real T1c beside its T1, and of a T1 beside itself with other scale, shading and noise.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from sequence_judge import settings

from anymri.benchmark.report.text_tables import markdown_table
from anymri.data.appearance import judge_appearance
from anymri.data.appearance.brain_frame import STEP_MM
from anymri.data.appearance.judge import GROUPS
from anymri.data.nifti import Volume, read_image
from anymri.inference.trust.enhancement import enhancement
from anymri.phantom import make_subject
from anymri.phantom.contrast.protocol import draw_further_protocol, draw_protocols
from anymri.phantom.contrast.signal import diffusion_decay, inversion_recovery, spin_echo
from anymri.phantom.contrast.tissues import draw_diffusion, draw_tissues

#: Of the held-back phantoms; the judge was fitted to those of seed 14.
SEED = 20261
DRAWS = 400
GROUP_OF = {code: group for group, codes in GROUPS.items() for code in codes}


def count_phantoms(subjects: int) -> Counter[tuple[str, str, str]]:
    """Kind of contrast, sequence and likeliest group of every image; random contrast means nothing for PD, DWI, ADC."""
    found: Counter[tuple[str, str, str]] = Counter()
    for index in range(subjects):
        chosen = settings(index)
        for code, array in make_subject(SEED, index, chosen).images.items():
            if chosen.contrast == "random" and code not in ("t1", "t1c", "t2", "flair"):
                continue
            chance = judge_appearance(array, (STEP_MM,) * 3).foreign
            found[chosen.contrast, code, max(chance, key=chance.__getitem__) if chance else "not judged"] += 1
    return found


def confusion(found: Counter[tuple[str, str, str]], contrast: str) -> str:
    """Table of one kind of contrast, and the share that was told right."""
    seen = [*GROUPS, "not judged"]
    codes = [code for code in GROUP_OF if any(key[:2] == (contrast, code) for key in found)]
    rows = [[code, *(str(found[contrast, code, group]) for group in seen)] for code in codes]
    total = sum(found[contrast, code, group] for code in codes for group in seen)
    right = sum(found[contrast, code, GROUP_OF[code]] for code in codes)
    mixed = found[contrast, "flair", "dwi"] + found[contrast, "dwi", "flair"]
    line = f"{contrast}: {right} of {total} right ({right / total:.1%}); {(right + mixed) / total:.1%} with FLAIR and "
    return markdown_table(["image", *seen], rows, left=1) + f"\n\n{line}DWI taken as one"


def brightness(code: str, generator: np.random.Generator) -> list[float]:
    """CSF and grey matter against white, without noise, of one drawn patient and protocol."""
    field_t, tissues = draw_tissues(generator)
    diffusion = draw_diffusion(generator)
    usual = draw_protocols(generator, field_t)
    protocol = usual.get(code) or draw_further_protocol(generator, "dwi" if code == "adc" else code, field_t)
    value = {}
    for name in ("csf", "grey", "white"):
        part = tissues[name]
        times = (part.pd, part.t1_ms, part.t2_ms, protocol.tr_ms, protocol.te_ms)
        plain = inversion_recovery(*times, protocol.ti_ms) if code == "flair" else spin_echo(*times)
        decay = diffusion_decay(diffusion[name], protocol.b_s_mm2) if code == "dwi" else 1.0
        value[name] = diffusion[name] if code == "adc" else abs(float(plain)) * float(decay)
    return [value["csf"] / value["white"], value["grey"] / value["white"]]


def physics() -> str:
    """Cross-validated share that tissue alone tells right, and what is confused."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import cross_val_predict

    codes = ("t2", "pd", "flair", "dwi", "adc")
    numbers = [brightness(code, np.random.default_rng([SEED, n])) for code in codes for n in range(DRAWS)]
    truth = np.repeat(codes, DRAWS)
    told = cross_val_predict(ExtraTreesClassifier(200, random_state=0), np.array(numbers), truth, cv=5)
    wrong = Counter((str(a), str(b)) for a, b in zip(truth, told, strict=True) if a != b)
    listed = ", ".join(f"{a} as {b} {count}" for (a, b), count in wrong.most_common())
    return f"physics, {len(truth)} drawn images: {np.mean(told == truth):.1%} told right; {listed or 'none wrong'}"


def real_enhancement(data: Path) -> str:
    """Enhancement of each real pair, and of a T1 beside itself."""
    rows = []
    for number, case in enumerate(sorted([*(data / "brats2021").iterdir(), *(data / "openms").iterdir()])):
        plain, enhanced = (read_image(case / f"{code}.nii.gz") for code in ("t1", "t1c"))
        rows.append(
            [case.name, f"{enhancement(plain, enhanced):.2f}", f"{enhancement(plain, _again(plain, number)):.2f}"]
        )
    return markdown_table(["case", "T1c beside T1", "T1 beside itself"], rows, left=1)


def _again(volume: Volume, seed: int) -> Volume:
    """The same contrast with other scale, shading and noise (3 % of the mean)."""
    inside = volume.array != 0
    noise = np.random.default_rng(seed).normal(0, 0.03 * volume.array[inside].mean(), volume.array.shape)
    shading = 1 + 0.15 * np.linspace(-1, 1, volume.array.shape[1])[None, :, None]
    values = np.maximum(1.3 * volume.array * shading + noise, 1e-3)
    return volume._replace(array=np.where(inside, values, 0).astype(np.float32))


def main() -> None:
    """Print all three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the real data")
    parser.add_argument("--subjects", type=int, default=100)
    arguments = parser.parse_args()
    print(physics())
    print(real_enhancement(arguments.data))
    found = count_phantoms(arguments.subjects)
    for contrast in dict.fromkeys(key[0] for key in found):
        print(f"\n{confusion(found, contrast)}")


if __name__ == "__main__":
    main()
