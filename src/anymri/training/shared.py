"""Shared stages: one teacher for the runs of all subsets, stored beside them under a hash of what it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from anymri.config import result_changing
from anymri.files import inside, make_folder, replace_file
from anymri.protocol.finite import find_non_finite
from anymri.protocol.weights_file import fit_buffers, fits_checksum, seal_tensors
from anymri.training.optimization import frozen_parts
from anymri.training.preparation import PreparedRun, plain_stage

__all__ = ["SharedStages", "state_of_stage"]


def state_of_stage(module: nn.Module, trained: Set[int]) -> dict[str, Tensor]:
    """What a stage may change: its trained parameters, and the buffers that lie outside frozen parts.

    Parameters
    ----------
    module : nn.Module
    trained : set of int
        Identities of the trained parameters.
    """
    frozen = frozen_parts(module, trained)
    resting = [f"{name}." for name, part in module.named_modules() if any(part is one for one in frozen)]
    other = {name for name, parameter in module.named_parameters() if id(parameter) not in trained}
    state = module.state_dict()
    return {name: state[name] for name in state if name not in other and not name.startswith(tuple(resting))}


class SharedStages:
    """Finished weights of shared stages.

    Parameters
    ----------
    folder : Path
        Made when it is needed.
    plan : PreparedRun
    """

    def __init__(self, folder: Path, plan: PreparedRun) -> None:
        self.folder, self.plan = folder, plan

    def key(self, index: int, start: Mapping[str, Tensor], before: str) -> str:
        """Hash of all that the weights at the end of a stage follow from; empty where the code is not known.

        Parameters
        ----------
        index : int
            Of the stage.
        start : dict of str to Tensor
            `state_of_stage` before the stage.
        before : str
            Key of the shared stage before; empty for the first.
        """
        plan = self.plan
        if plan.facts["code"] is None:
            return ""
        config = result_changing(plan.config)
        config["method"]["config"].pop("subset", None)
        subjects = plan.stage_subjects[index]
        content = [config, plain_stage(plan.stages[index]), index, plan.facts["dataset_fingerprint"]]
        content += [plan.facts.get(name) for name in ("code", "hidden", "site", "class_label", "tables")]
        content += [subjects.trained, subjects.pools, before]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        for name, value in sorted(start.items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return f"{plan.method.name}-{plan.stages[index].name}-{digest.hexdigest()[:16]}"

    def take(self, key: str, trained: Set[int]) -> bool:
        """Fill the method with a stage's finished weights; False if there are none, or damaged ones."""
        path = inside(self.folder, f"{key}.safetensors")
        try:
            found = load_file(path)
        except (OSError, SafetensorError):
            return False
        if not fits_checksum(path):
            return False
        method = self.plan.method
        if set(found) != set(state_of_stage(method, trained)):
            return False
        if find_non_finite(found, dict(method.named_buffers())):
            return False
        fit_buffers(method, found)
        method.load_state_dict(found, strict=False)
        return True

    def keep(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Store a stage's finished weights for the other runs."""
        make_folder(self.folder)
        with replace_file(inside(self.folder, f"{key}.safetensors")) as file:
            file.write(seal_tensors(state, {}))
