"""What disease adds to the anatomy: tissue shares of every voxel and the label map, one module a disease.

A pathology acts twice: a plan says where it sits and how it pushes healthy tissue aside, before the anatomy is
rendered; growing fills it in afterwards, following the rendered tissue.
"""

from anymri.phantom.pathology.glioma import GliomaPlan, grow_glioma, plan_glioma
from anymri.phantom.pathology.healthy import healthy_tissue
from anymri.phantom.pathology.tissue import COMPARTMENTS, Tissue

__all__ = ["COMPARTMENTS", "GliomaPlan", "Tissue", "grow_glioma", "healthy_tissue", "plan_glioma"]
