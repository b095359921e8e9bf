"""Digital brain phantoms: multi-sequence glioma studies with truth, made from nothing but a seed.

`make_subject` makes one study in memory, `generate` writes a data set, `generate_recipe` a frozen one;
`generate_abdomens` writes abdomens. Anatomy,
pathology, contrast and artifact are separate parts with separate random streams.
"""

from anymri.phantom.abdomen import generate_abdomens
from anymri.phantom.dataset import generate
from anymri.phantom.layouts import default_layout
from anymri.phantom.recipe import PhantomRecipe, generate_recipe, read_recipe, verify_recipe
from anymri.phantom.settings import PhantomSettings
from anymri.phantom.subject import PhantomSubject, checksum, make_subject, subject_id

__all__ = [
    "PhantomRecipe",
    "PhantomSettings",
    "PhantomSubject",
    "checksum",
    "default_layout",
    "generate",
    "generate_abdomens",
    "generate_recipe",
    "make_subject",
    "read_recipe",
    "subject_id",
    "verify_recipe",
]
