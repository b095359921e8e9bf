"""The contract suite that every method passes, for methods of this package and of others.

`MethodContract` is a class of tests for pytest, `check_method` prints without it. `CHECKS` lists what is demanded;
``docs/explanation/no-leaks.md`` says why.
"""

from anymri.testing.batches import make_batch
from anymri.testing.candidate import Candidate
from anymri.testing.contract import CHECKS, MethodContract, Outcome, check_method

__all__ = ["CHECKS", "Candidate", "MethodContract", "Outcome", "check_method", "make_batch"]
