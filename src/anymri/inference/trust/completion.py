"""Worth of completed sequences: kept where they beat a copy of a given one, and how far off their voxels are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

import numpy as np

from anymri.errors import UserError
from anymri.inference.words import sequence_names
from anymri.modalities import MODALITIES
from anymri.types import DataSpec
from anymri.zoo.card import ERROR_EDGES, CompletionScore, ModelCard

__all__ = [
    "Completion",
    "completed_errors",
    "error_map",
    "judge_completion",
    "kept_channels",
    "kept_outputs",
    "synthetic_mark",
]

Array = np.ndarray[Any, Any]
#: ``auto`` keeps what was not measured to be no better than a copy.
Completion = Literal["auto", "always", "never"]
#: Value that stands for each class of `ERROR_EDGES`.
_CENTRES = (-2.5, -1.5, -0.75, -0.25, 0.25, 0.75, 1.5, 2.5)


def judge_completion(
    card: ModelCard | None, spec: DataSpec, subset: Sequence[str], choice: Completion = "auto"
) -> dict[str, dict[str, Any]]:
    """What was measured of every sequence that is not given, and whether it is to be kept.

    Parameters
    ----------
    card : ModelCard or None
    spec : DataSpec
    subset : sequence of str
        Sequences that were given.
    choice : {"auto", "always", "never"}, default="auto"
        ``auto`` leaves out what was measured and does not beat copying.

    Returns
    -------
    dict of str to dict
        By modality code: ``kept``; ``beats_copying``, None if not measured; ``said``, a plain sentence; ``score``, the
        fields of `anymri.zoo.CompletionScore` or None; ``measured_on``.

    Raises
    ------
    UserError
        If there is no such choice.
    """
    if choice not in get_args(Completion):
        raise UserError(f"completion {choice!r}: unknown; choose {', '.join(get_args(Completion))}")
    judged = {}
    for code in (code for code in spec.modalities if code not in subset):
        score = None if card is None else card.completion(code, spec.subset_name(tuple(subset)))
        beats = None if score is None else score.beats_copying
        judged[code] = {
            "kept": choice == "always" or (choice == "auto" and beats is not False),
            "beats_copying": beats,
            "said": _sentence(code, subset, score),
            "score": None if score is None else asdict(score),
            "measured_on": None if card is None or score is None else card.numbers["completion"].get("measured_on"),
        }
    return judged


def _sentence(code: str, subset: Sequence[str], score: CompletionScore | None) -> str:
    name, source = MODALITIES[code].short_name, sequence_names(subset)
    if score is None:
        return f"Whether {name} completed from {source} is better than a copy of a given sequence was not measured."
    verdict = "is better than" if score.beats_copying else "is not shown to beat"
    copied = MODALITIES[score.copied].short_name
    gains = [
        f"{label} {gain[1]:+.{digits}f}{unit} (95 % interval {gain[0]:+.{digits}f} to {gain[2]:+.{digits}f})"
        for label, gain, unit, digits in (
            ("PSNR in the brain", score.gain_psnr, " dB", 1),
            ("SSIM", score.gain_ssim, "", 3),
            ("PSNR in the tumour", score.gain_psnr_tumor, " dB", 1),
        )
    ]
    return (
        f"{name} completed from {source} {verdict} a copy of {copied} on {score.n} unseen patients: "
        f"{', '.join(gains)}. A voxel is off by {score.mae:.2f} standard deviations of the brain on average, by "
        f"{score.mae_tumor:.2f} in the tumour, and one in ten by more than {score.p90:.2f}."
    )


def kept_channels(judged: Mapping[str, Mapping[str, Any]], synthesised: Any, spec: DataSpec) -> Any:
    """Channels that were synthesised and are kept.

    Parameters
    ----------
    judged : mapping
        From `judge_completion`.
    synthesised : Tensor of bool, shape (M,)
    spec : DataSpec
    """
    kept = synthesised.clone()
    for code, facts in judged.items():
        kept[spec.index(code)] &= facts["kept"]
    return kept


def kept_outputs(
    outputs: tuple[str, ...] | None, judged: Mapping[str, Mapping[str, Any]], method: Any
) -> tuple[str, ...] | None:
    """Outputs to compute: without images where the method segments and none of its images is kept.

    Raises
    ------
    UserError
        If nothing were left to compute.
    """
    asked = method.outputs if outputs is None else outputs
    if not judged or any(facts["kept"] for facts in judged.values()) or "image" not in asked:
        return outputs
    rest = tuple(output for output in asked if output != "image")
    if not rest:
        raise UserError(
            f"model {method.name}: does nothing but complete, and no sequence is to be kept; let it complete always"
        )
    return rest


def synthetic_mark(code: str) -> str:
    """What the header of a completed sequence says, so that a renamed file still tells what it is."""
    return f"SYNTHETIC {MODALITIES[code].short_name}, computed by anymri, not measured"


def completed_errors(
    completed: Mapping[str, Array], judged: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Array]]:
    """`error_map` of every completed sequence whose error was measured, one after the other."""
    for code, array in completed.items():
        score = judged.get(code, {}).get("score")
        if score is not None:
            yield code, error_map(array, score["error_by_value"])


def error_map(completed: Array, error_by_value: Sequence[float]) -> Array:
    """How far off a voxel of a completed sequence is on average, by its completed value.

    Parameters
    ----------
    completed : float array, shape (D, H, W)
        z-scores, 0 outside the brain.
    error_by_value : sequence of float, length ``len(ERROR_EDGES) + 1``
        Of `anymri.zoo.CompletionScore`.

    Returns
    -------
    float32 array, shape (D, H, W)
        Expected ``|completed - real|`` in z-scores, measured on unseen patients; 0 outside the brain.
    """
    assert len(error_by_value) == len(ERROR_EDGES) + 1 == len(_CENTRES)
    expected = np.interp(completed, _CENTRES, error_by_value).astype(np.float32)
    expected[completed == 0] = 0
    return expected
