"""Raw studies: heads as they come from the scanner, each sequence on its own grid, to aligned brains on one grid.

`study.prepare_raw` is the way in; every step is a module: `bias`, `registration`, `brain`, `identify`, `tools`.
Matrices are 4x4, act on world positions in mm, RAS+, and are called ``<target>_to_<source>``: where a point of the
target lies in the source, which is what resampling needs.
"""
