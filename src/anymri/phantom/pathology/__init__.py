"""Pathology of phantoms: tissue shares of every voxel and the label map, one module per disease.

A pathology acts twice: a plan says where it sits and how it pushes healthy tissue aside, before the anatomy is
rendered; growing fills it in afterwards, following the rendered tissue.
"""

from anymri.phantom.pathology.table import PATHOLOGY_TABLE, Pathology
from anymri.phantom.pathology.tissue import COMPARTMENTS, Tissue

__all__ = ["COMPARTMENTS", "PATHOLOGY_TABLE", "Pathology", "Tissue"]
