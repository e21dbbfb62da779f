"""Write the shipped checkpoints again after a change of options or names: weights and records stay as they are.

Run from the book's root: ``python data/migrate_checkpoints.py``. Each file gets the complete configuration of its
builder, and the names in ``RENAMED`` where the encoder of objects took the place of two encoders before it. The new
checksums are printed as data/README.md has them.
"""

from __future__ import annotations

import re
from functools import partial
from hashlib import sha256

from rewind import paths
from rewind.generation.parton_level import build_sampler
from rewind.mem.proposal import Proposal
from rewind.neutrino.classical.pairing import pairing_network
from rewind.neutrino.flows.flow import neutrino_flow
from rewind.nn import checkpoints
from rewind.partons.conditioner import conditioner
from rewind.partons.unfolding_flow import unfolding_flow
from rewind.toys.robot_arm import posterior_flow
from rewind.transfer.learnt import LearntTransfer

BUILDERS = {
    "conditioner": conditioner,
    "conditioner_half": conditioner,
    "conditioner_with_scores": conditioner,
    "dilepton_proposal": Proposal,
    "learnt_transfer": LearntTransfer,
    "nu2_flow": neutrino_flow,
    "nu2_pairing": pairing_network,
    "nu_flow": neutrino_flow,
    "robot_arm": posterior_flow,
    "tth_lost_proposal": Proposal,
    "tth_proposal": Proposal,
    "tth_semileptonic_sampler": build_sampler,
    "ttbar_dilepton_sampler": build_sampler,
    "unfolding_flow": unfolding_flow,
}

_OBJECTS = "(lepton|jet|whole)"
_LAYERS = "(encoder|reading|token|norm)"
_OF_FLOW = (
    (r"encoder\.features\.legs", "encoder.parts.0.slots.lepton"),
    (rf"encoder\.features\.{_OBJECTS}\.", r"encoder.parts.0.linear.\1."),
    (r"encoder\.solutions\.linear\.", "encoder.parts.1.linear.solution."),
    (r"encoder\.encoder\.", "encoder.transformer."),
)
_OF_PAIRING = (
    (r"features\.legs", "encoder.parts.0.slots.lepton"),
    (rf"features\.{_OBJECTS}\.", r"encoder.parts.0.linear.\1."),
    (rf"encoder\.{_LAYERS}\b", r"encoder.transformer.\1"),
)
_OF_CONDITIONER = (
    (rf"((?:roles\.)?){_OBJECTS}\.", r"\1encoder.parts.0.linear.\2."),
    (rf"((?:roles\.)?)encoder\.{_LAYERS}\b", r"\1encoder.transformer.\2"),
)
_OF_UNFOLDING = (
    (rf"conditioner\.{_OBJECTS}\.", r"conditioner.encoder.parts.0.linear.\1."),
    (rf"conditioner\.encoder\.{_LAYERS}\b", r"conditioner.encoder.transformer.\1"),
    (rf"encoder\.events\.{_OBJECTS}\.", r"encoder.events.parts.0.linear.\1."),
    (r"encoder\.events\.encoder\.", "encoder.events.transformer."),
)
RENAMED = {
    "conditioner": _OF_CONDITIONER,
    "conditioner_half": _OF_CONDITIONER,
    "conditioner_with_scores": _OF_CONDITIONER,
    "nu2_flow": _OF_FLOW,
    "nu2_pairing": _OF_PAIRING,
    "nu_flow": _OF_FLOW,
    "unfolding_flow": _OF_UNFOLDING,
}


def renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    """Return the new name of a weight: the first of the rules that fits its beginning."""
    for pattern, new in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", new, name)
    return name


def main() -> None:
    """Rewrite all checkpoints and print their checksums."""
    folder = paths.root() / "data" / "checkpoints"
    for model, build in BUILDERS.items():
        path = folder / f"{model}.safetensors"
        checkpoints.rewrite(path, build, partial(renamed, rules=RENAMED.get(model, ())))
        print(f"checkpoints/{path.name} {sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
