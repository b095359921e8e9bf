"""Settings of a method, validated once, and the presets they start from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import ConfigDict

from anymri.bounds import LARGEST, WrongSetting, fill, short
from anymri.types import Stage, UserError

__all__ = ["ConfigT", "MethodConfig", "Preset"]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Settings all methods share; each method adds its own with the paper's values as defaults.

    Parameters
    ----------
    preset : {"paper", "tiny"}, default="paper"
        Named sizes and stages the configuration started from; picks the stages.
    subset : str or None, default=None
        For per-subset systems: the subset this instance serves, e.g. ``"t1c+flair"``; None = all modalities.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    #: Old names of settings and what they are called now; files of earlier versions hold the old ones.
    renamed: ClassVar[dict[str, str]] = {}

    preset: Literal["paper", "tiny"] = "paper"
    subset: str | None = None

    @classmethod
    def build(cls, values: dict[str, Any]) -> Self:
        """Validate plain values, e.g. from YAML; settings may have their old names.

        Raises
        ------
        UserError
            If a key is unknown or a value has the wrong type; names the key and the nearest known one.
        """
        # Old names last: they are somebody's own choice, the new name beside one is the preset's.
        values = dict(sorted(values.items(), key=lambda item: item[0] in cls.renamed))
        values = {cls.renamed.get(key, key): value for key, value in values.items()}
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                key = short(key, plain=True)
                close = get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
                raise UserError(f"unknown key method.config.{key}; {hint}")
        try:
            return fill(cls, values, LARGEST)
        except WrongSetting as wrong:
            raise UserError(f"method.config.{wrong.key} = {wrong.value}: {wrong.reason}") from None


#: Settings of a method.
ConfigT = TypeVar("ConfigT", bound=MethodConfig)


@dataclass(frozen=True)
class Preset:
    """Sizes and stages that belong together: ``paper`` is exact, ``tiny`` trains in minutes on two cores.

    Parameters
    ----------
    stages : tuple of Stage
    config : dict
        Config fields that differ from their defaults.
    """

    stages: tuple[Stage, ...]
    config: dict[str, Any] = field(default_factory=dict)
