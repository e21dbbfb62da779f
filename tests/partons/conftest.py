from dataclasses import replace

import pytest


@pytest.fixture(scope="session")
def turned_batch(turned):
    """Give a function that moves events as ``turned`` does: what was measured, and the truth."""

    def move(batch, angle, signs):
        seen = {name: turned(getattr(batch, name), angle, signs) for name in ("leptons", "jets", "met")}
        truth = {name: turned(getattr(batch.truth, name), angle, signs) for name in ("tops", "higgs")}
        return replace(batch, **seen, truth=replace(batch.truth, **truth))

    return move
