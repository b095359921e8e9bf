"""Training facts: what a weights file says of the training that made it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from anymri.errors import UserError

__all__ = ["TrainingFacts"]

Triple = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What prediction and evaluation must know of a training; None = the weights do not say.

    Parameters
    ----------
    run : str or None
        Name of the run.
    preset : str or None
    seed, fold : int or None
    spacing_mm : tuple of float or None
        Voxel size (D, H, W) that was trained at.
    window : tuple of int or None
        Window (D, H, W) in voxels to predict with.
    head : dict or None
        Fields of the method's `Head`.
    dataset_fingerprint : str or None
        Of the cache, see `anymri.data.cache.Cache.fingerprint`.
    training_subjects, training_images : tuple of str or None
        Ids of the subjects, and signatures of their images (`anymri.evaluation.seen`).
    dropped_subjects : dict of str to int or None
        Reason to number of subjects that were left out.
    hidden : dict or None
        Sequences that ``data.hide`` hid, by subject.
    site_names, class_label_names : tuple of str or None
        What the numbers of `Batch.site` and `Batch.class_label` stand for.
    code : str or None
        Hash of the training code, see `anymri.training.code`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", allow_inf_nan=False)

    run: str | None = None
    preset: str | None = None
    seed: int | None = None
    fold: int | None = None
    spacing_mm: Triple | None = None
    window: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    head: dict[str, Any] | None = None
    dataset_fingerprint: str | None = None
    training_subjects: tuple[str, ...] | None = None
    training_images: tuple[str, ...] | None = None
    dropped_subjects: dict[str, int] | None = None
    hidden: dict[str, Any] | None = None
    site_names: tuple[str, ...] | None = None
    class_label_names: tuple[str, ...] | None = None
    code: str | None = None

    @classmethod
    def read(cls, values: dict[str, Any], source: object) -> Self:
        """Validate plain values, e.g. of a weights file; keys of other versions are left out.

        Raises
        ------
        UserError
            If a value has the wrong type or is not finite; names `source` and the key.
        """
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            reason = f"{place} = {first['input']!r} does not fit: {first['msg']}"
            raise UserError(f"{source}: {reason}; get the file anew") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values of what is known."""
        return {key: value for key, value in asdict(self).items() if value is not None}
