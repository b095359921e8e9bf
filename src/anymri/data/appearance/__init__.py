"""Appearance of a brain image: which sequence it looks like by anatomy alone, without file name or header."""

from anymri.data.appearance.judge import Appearance, judge_appearance

__all__ = ["Appearance", "judge_appearance"]
