"""Which sequence a brain image looks like, by its anatomy alone: no file name and no header is asked."""

from anymri.data.appearance.judge import Appearance, judge_appearance

__all__ = ["Appearance", "judge_appearance"]
