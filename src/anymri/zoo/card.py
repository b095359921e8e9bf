"""Model cards: what is known about a bundled model, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from anymri.errors import UserError

__all__ = [
    "COMPLETION_METRICS",
    "ERROR_EDGES",
    "CompletionScore",
    "ModelCard",
    "RegionScore",
    "card_text",
    "read_card_file",
]

#: A case has a region if its reference holds at least this much of it, in ml (the field's 500 voxels of 1 mm).
REGION_ML = 0.5
#: What a completed sequence must beat a copy in: PSNR and SSIM in the brain, PSNR in the tumour.
COMPLETION_METRICS = ("psnr", "ssim", "psnr_tumor")
#: Limits between the classes of completed values (z-scores) whose error was measured apart.
ERROR_EDGES = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class RegionScore:
    """Dice of one region from one subset of sequences, over cases that were not in training.

    Parameters
    ----------
    mean, median : float or None
        Over the cases whose reference holds at least `REGION_ML` of the region; None if there is no such case.
    n : int
        Number of these cases.
    without : int, default=0
        Cases with less of the region than that; they are in neither mean nor median.
    left_empty : int, default=0
        How many of `without` were predicted with less than `REGION_ML` as well.
    false_ml : float or None, default=None
        Median volume predicted in the cases of `without`; None if there is none.
    """

    mean: float | None
    median: float | None
    n: int
    without: int = 0
    left_empty: int = 0
    false_ml: float | None = None


@dataclass(frozen=True, kw_only=True)
class CompletionScore:
    """Worth of one completed sequence from one subset, beside a copy of a given one, on cases not in training.

    Parameters
    ----------
    n : int
        Number of cases.
    copied : str
        The given sequence most like the wanted one in other cases, which is what was copied.
    psnr, ssim, psnr_tumor : list of float
        Mean of the model and the copy; of PSNR also of a voxel-wise linear regression.
    gain_psnr, gain_ssim, gain_psnr_tumor : list of float, length 3
        Model minus copy, paired by case: lower end of the 95 % interval (t), mean, upper end.
    mae, mae_tumor, p90 : float
        Mean of ``|completed - real|`` in the brain and in the tumour, and what nine of ten voxels of a brain stay
        below; in z-scores (1 = standard deviation of the brain).
    error_by_value : list of float, length ``len(ERROR_EDGES) + 1``
        Mean of ``|completed - real|`` by the completed value, in the classes between `ERROR_EDGES`.
    """

    n: int
    copied: str
    psnr: list[float]
    gain_psnr: list[float]
    ssim: list[float]
    gain_ssim: list[float]
    psnr_tumor: list[float]
    gain_psnr_tumor: list[float]
    mae: float
    mae_tumor: float
    p90: float
    error_by_value: list[float]

    @property
    def beats_copying(self) -> bool:
        """Whether the whole interval of the gain lies above 0, in each of `COMPLETION_METRICS`."""
        return all(getattr(self, f"gain_{metric}")[0] > 0 for metric in COMPLETION_METRICS)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Model card of a bundled model; the front matter of its Markdown card.

    Parameters
    ----------
    name : str
        Name in the zoo, equal to the file's name.
    method : str
        Registry name of its method.
    summary : str
        One line.
    modalities : tuple of str
        Sequences it accepts, in channel order.
    data : str
        What it was trained on.
    seed : int
    command : str
        How to train it again.
    licence : str
    limits : str
        What it must not be used for or is not known to do.
    numbers : dict
        Measured results of cases that were not in training: ``by_subset`` maps a subset name to region to the fields
        of `RegionScore`, ``measured_on`` says which cases. ``completion.by_target`` maps a sequence to subset name to
        the fields of `CompletionScore`, ``completion.measured_on`` says on which cases.
    path : Path
        Weights file.
    text : str, default=""
        Body of the card, Markdown.
    default : bool, default=False
        Whether it is the model that ``default`` stands for.
    """

    name: str
    method: str
    summary: str
    modalities: tuple[str, ...]
    data: str
    seed: int
    command: str
    licence: str
    limits: str
    numbers: dict[str, Any] = field(default_factory=dict)
    path: Path
    text: str = ""
    default: bool = False

    def __post_init__(self) -> None:
        for subset in self.numbers.get("by_subset", {}):
            self.measured(subset)
        for target, subsets in self.numbers.get("completion", {}).get("by_target", {}).items():
            for subset in subsets:
                self.completion(target, subset)

    def completion(self, target: str, subset: str) -> CompletionScore | None:
        """Worth of a sequence completed from a subset, e.g. of ``"t2"`` from ``"t1c+flair"``; None if not measured.

        Raises
        ------
        TypeError
            If the card's numbers are not those of `CompletionScore`.
        """
        entry = self.numbers.get("completion", {}).get("by_target", {}).get(target, {}).get(subset)
        return None if entry is None else CompletionScore(**entry)

    def measured(self, subset: str) -> dict[str, RegionScore]:
        """Scores by region for a subset of sequences, e.g. ``"t1c+flair"``; empty if it was not measured.

        Raises
        ------
        TypeError
            If the card's numbers are not those of `RegionScore`.
        """
        entries = self.numbers.get("by_subset", {}).get(subset, {})
        if not all(isinstance(entry, Mapping) for entry in entries.values()):
            raise TypeError(f"numbers of {subset}: give mean, median and n of each region")
        return {region: RegionScore(**entry) for region, entry in entries.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, without body and place."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in ("path", "text")}
        return {**values, "modalities": list(self.modalities)}


def read_card_file(path: Path, default: bool = False) -> ModelCard:
    """Read the card ``<name>.md`` beside weights.

    Raises
    ------
    UserError
        If there is none, it is incomplete, or it is the card of another model.
    """
    from yaml import YAMLError, safe_load

    weights = path.with_suffix(".safetensors")
    if not path.is_file():
        raise UserError(f"{weights}: no model card; add {path.name} beside it")
    opening, front, text = (path.read_text(encoding="utf-8").split("---\n", 2) + ["", ""])[:3]
    try:
        values = safe_load(front) if not opening.strip() else None
        if not isinstance(values, dict):
            raise TypeError("no YAML front matter between two lines of ---")
        values["modalities"] = tuple(values["modalities"])
        card = ModelCard(**values, path=weights, text=text.strip(), default=default)
    except (YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a model card ({error}); see CONTRIBUTING") from None
    if card.name != path.stem:
        raise UserError(f"{path}: card of {card.name!r} beside weights {path.stem!r}; use one name")
    return card


def card_text(card: ModelCard) -> str:
    """The card for reading: facts, a table of what was measured, then its prose."""
    facts = [(key, getattr(card, key)) for key in ("method", "summary", "data", "licence", "limits", "command")]
    lines = [card.name, "", *(f"{key + ':':<10}{value}" for key, value in facts), "", *_table(card), "", card.text]
    return "\n".join(lines).rstrip() + "\n"


def _table(card: ModelCard) -> list[str]:
    """Median and mean Dice of every subset and region; what was predicted where there is no such region."""
    measured = {subset: card.measured(subset) for subset in card.numbers.get("by_subset", {})}
    if not measured:
        return ["Nothing was measured on cases that were not in training."]
    regions = list(next(iter(measured.values())))
    width = max(map(len, measured)) + 2
    lines = [f"Dice, median (mean), on {card.numbers.get('measured_on', 'cases that were not in training')}", ""]
    lines += ["".join([f"{'sequences':<{width}}", *(f"{region:<20}" for region in regions)]).rstrip()]
    for subset, scores in measured.items():
        cells = [_cell(scores[region]) for region in regions]
        lines.append("".join([f"{subset:<{width}}", *(f"{cell:<20}" for cell in cells)]).rstrip())
    first = next(iter(measured.values()))
    lines.append("".join([f"{'cases':<{width}}", *(f"{first[region].n:<20}" for region in regions)]).rstrip())
    for region in (region for region in regions if first[region].without):
        lines += ["", f"{first[region].without} further cases with less than {REGION_ML} ml of {region}", ""]
        lines.append(f"{'sequences':<{width}}{'left empty':<20}median false ml")
        for subset, scores in measured.items():
            score = scores[region]
            lines.append(f"{subset:<{width}}{f'{score.left_empty} of {score.without}':<20}{score.false_ml:.1f}")
    return lines


def _cell(score: RegionScore) -> str:
    return "not measured" if score.median is None else f"{score.median:.2f} ({score.mean:.2f})"
