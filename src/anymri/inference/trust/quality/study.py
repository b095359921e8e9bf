"""Quality of a study: which of its sequences are usable, why not, and what a prediction does about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from anymri.data.nifti import Volume
from anymri.data.raw.stripped import NOT_BRAIN
from anymri.errors import UserError
from anymri.inference.pictures import PLANES, brain_box, data_uri, montage_png, slice_picture, value_range
from anymri.inference.trust.enhancement import SAME_CONTRAST, enhancement
from anymri.inference.trust.quality.agreement import measure_agreement
from anymri.inference.trust.quality.judge import ARTIFACTS, judge_agreement, judge_image, limits_of
from anymri.inference.trust.quality.measures import measure_brain, small_brain
from anymri.inference.trust.quality.shape import check_quality
from anymri.modalities import MODALITIES
from anymri.threads import map_parts

__all__ = ["CHOICES", "Choice", "SequenceQuality", "StudyQuality", "judge_rest", "judge_study", "usable_of"]

Choice = Literal["off", "warn", "drop"]
Verdict = Literal["usable", "doubtful", "unusable"]
CHOICES = ("off", "warn", "drop")
#: Height of the pictures in pixels.
HEIGHT = 130
#: Sequences from which one that does not fit can be told: of two nobody knows which is in place.
FEWEST_TO_BLAME = 3


class SequenceQuality(NamedTuple):
    """Quality of one sequence.

    Attributes
    ----------
    severity : dict of str to float or None
        Artifact, a key of `anymri.inference.trust.quality.judge.ARTIFACTS`, to 0 (none) to 1 (useless); None where it
        could not be judged. Empty for images that are no brain.
    verdict : {"usable", "doubtful", "unusable"}
        ``unusable``: simulated artifacts so strong did more harm in segmentation than leaving the sequence out.
    reason : str
        What is wrong, in words with the number; empty of a usable one.
    enhancement : float or None
        Of T1c beside T1, see `anymri.inference.trust.enhancement.enhancement`: near 0 nothing enhances.
    picture : bytes
        PNG of the middle slice in three planes.
    """

    severity: dict[str, float | None]
    verdict: Verdict
    reason: str
    enhancement: float | None
    picture: bytes

    @property
    def worst(self) -> float:
        """Largest severity, 0 where none was judged."""
        return max((value for value in self.severity.values() if value is not None), default=0.0)

    @property
    def doubt(self) -> float:
        """Order of sequences: by verdict, then by the largest severity."""
        return {"usable": 0.0, "doubtful": 1.0, "unusable": 2.0}[self.verdict] + self.worst


class StudyQuality(NamedTuple):
    """Quality of every sequence that was given.

    Attributes
    ----------
    choice : {"warn", "drop"}
    sequences : dict of str to SequenceQuality
        By modality code; dropped ones are among them.
    dropped : tuple of str
        Sequences that were left out of the prediction.
    shape : tuple of str
        Sentences of `check_quality` on size, outline and slices.
    """

    choice: Choice
    sequences: dict[str, SequenceQuality]
    dropped: tuple[str, ...] = ()
    shape: tuple[str, ...] = ()

    @property
    def unusable(self) -> tuple[str, ...]:
        """Sequences whose verdict is ``unusable``, and which are not dropped yet."""
        return tuple(
            code for code, found in self.sequences.items() if found.verdict == "unusable" and code not in self.dropped
        )

    @property
    def sentences(self) -> list[str]:
        """Warnings, a plain sentence each, the gravest first."""
        said = [
            f"{MODALITIES[code].long_name} was left out as unusable: {self.sequences[code].reason}; it counts as "
            "missing."
            for code in self.dropped
        ]
        for verdict in ("unusable", "doubtful"):
            for code, found in self.sequences.items():
                if found.verdict == verdict and code not in self.dropped:
                    advice = "; --quality drop leaves it out" if verdict == "unusable" else ""
                    said.append(f"{MODALITIES[code].long_name} looks {verdict}: {found.reason}{advice}.")
        return [*said, *self.remarks]

    @property
    def remarks(self) -> list[str]:
        """Sentences on a T1c that shows no enhancement, and on size, outline and slices."""
        said = []
        for found in self.sequences.values():
            if found.enhancement is not None and abs(found.enhancement) < SAME_CONTRAST:
                said.append(
                    f"Contrast-enhanced T1 shows no enhancement over T1 ({found.enhancement:.1f}; from "
                    f"{SAME_CONTRAST} on it does): perhaps no agent was given."
                )
        return [*said, *self.shape]

    def facts(self) -> dict[str, Any]:
        """Plain values for ``result.json``; pictures are named where `picture_files` writes them."""
        files = self.picture_files()
        return {
            "choice": self.choice,
            "dropped": list(self.dropped),
            "sequences": {
                code: {
                    "verdict": found.verdict,
                    "reason": found.reason,
                    "severity": {
                        name: None if value is None else round(value, 3) for name, value in found.severity.items()
                    },
                    "enhancement": None if found.enhancement is None else round(found.enhancement, 3),
                    "picture": next((name for name in files if name == _picture_name(code)), None),
                }
                for code, found in self.sequences.items()
            },
        }

    def picture_files(self) -> dict[str, bytes]:
        """Pictures of the unusable sequences, by their place in the result folder."""
        return {
            _picture_name(code): found.picture for code, found in self.sequences.items() if found.verdict == "unusable"
        }

    def rows(self) -> list[dict[str, Any]]:
        """Rows for a page, the most doubtful first."""
        order = sorted(self.sequences, key=lambda code: -self.sequences[code].doubt)
        return [
            {
                "study": "",
                "code": code,
                "doubt": self.sequences[code].doubt,
                "name": MODALITIES[code].long_name,
                "verdict": "left out" if code in self.dropped else self.sequences[code].verdict,
                "reason": self.sequences[code].reason,
                "enhancement": self.sequences[code].enhancement,
                "severity": [
                    (ARTIFACTS[name], value, value is not None and value >= limits_of(name, code).doubtful)
                    for name, value in _worst_first(self.sequences[code].severity)
                ],
                "uri": data_uri(self.sequences[code].picture),
            }
            for code in order
        ]


def judge_study(volumes: Mapping[str, Volume], choice: Choice = "warn") -> StudyQuality:
    """Judge every sequence of a study.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Modality code to brain image, background 0, all on one grid, in the values of the scanner.
    choice : {"warn", "drop"}, default="warn"
        Recorded; nothing is dropped here.

    Notes
    -----
    A sequence is judged by its own brain, and for misregistration by the other sequences given.
    """
    volumes = {code: volume._replace(array=np.nan_to_num(volume.array)) for code, volume in volumes.items()}
    shape = check_quality(volumes)
    agreement = measure_agreement(volumes) if len(volumes) > 1 else {}
    shown = enhancement(volumes["t1"], volumes["t1c"]) if {"t1", "t1c"} <= volumes.keys() else None

    def judge(code: str, volume: Volume) -> SequenceQuality:
        severity: dict[str, float | None] = {}
        small = None if code in NOT_BRAIN else small_brain(volume.array, volume.geometry.spacing_mm)
        if small is not None:
            severity = dict(judge_image(measure_brain(small)))
            severity["misregistration"] = judge_agreement(agreement[code]) if code in agreement else None
        verdict, reason = _verdict(code, severity, len(agreement))
        return SequenceQuality(severity, verdict, reason, shown if code == "t1c" else None, _picture(volume))

    return StudyQuality(choice, map_parts(judge, volumes), (), tuple(shape))


def usable_of(given: Mapping[str, Volume], judged: StudyQuality) -> dict[str, Volume]:
    """The sequences that are left when the unusable ones are taken out.

    Raises
    ------
    UserError
        If none is left.
    """
    left = {code: volume for code, volume in given.items() if code not in judged.unusable}
    if not left:
        reasons = "; ".join(f"{code}: {judged.sequences[code].reason}" for code in judged.unusable)
        raise UserError(f"--quality drop: no sequence is usable ({reasons}); --quality warn goes on with all of them")
    return left


def judge_rest(judged: StudyQuality, volumes: Mapping[str, Volume]) -> StudyQuality:
    """Judge a study anew without its unusable sequences, which stay in the record as dropped.

    Parameters
    ----------
    judged : StudyQuality
    volumes : mapping of str to Volume
        What is left, see `judge_study`.
    """
    anew = judge_study(volumes, judged.choice)
    sequences = {code: anew.sequences.get(code, found) for code, found in judged.sequences.items()}
    return anew._replace(sequences=sequences, dropped=(*judged.dropped, *judged.unusable))


def _verdict(code: str, severity: Mapping[str, float | None], compared: int) -> tuple[Verdict, str]:
    """Verdict and reason by the artifacts that reach their limits."""
    unusable, doubtful = [], []
    for name, value in _worst_first(severity):
        if value is None:
            continue
        limits = limits_of(name, code)
        to_blame = name != "misregistration" or compared >= FEWEST_TO_BLAME
        if value >= limits.unusable and to_blame:
            unusable.append(f"{ARTIFACTS[name]} {value:.2f} (unusable from {limits.unusable:.2f})")
        elif value >= limits.doubtful:
            doubtful.append(f"{ARTIFACTS[name]} {value:.2f} (doubtful from {limits.doubtful:.2f})")
    if unusable:
        return "unusable", ", ".join([*unusable, *doubtful][:3])
    if doubtful:
        return "doubtful", ", ".join(doubtful[:2])
    return "usable", ""


def _worst_first(severity: Mapping[str, float | None]) -> list[tuple[str, float | None]]:
    return sorted(severity.items(), key=lambda item: -1.0 if item[1] is None else -item[1])


def _picture_name(code: str) -> str:
    return f"quality/{code}.png"


def _picture(volume: Volume) -> bytes:
    """Middle slices in three planes."""
    image = volume.array
    options: dict[str, Any] = {"box": brain_box(image), "spacing_mm": volume.geometry.spacing_mm, "height": HEIGHT}
    options["limits"] = value_range(image)
    box = options["box"]
    return montage_png(
        [
            slice_picture(image, plane=plane, index=(box[axis].start + box[axis].stop - 1) // 2, **options)
            for plane, axis in PLANES.items()
        ]
    )
