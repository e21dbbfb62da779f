import os
import signal

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

import small_book
from rewind import events

settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
)
settings.register_profile(
    "explore", settings.get_profile("steady"), derandomize=False, max_examples=200, print_blob=True
)
settings.load_profile("steady")  # --hypothesis-profile=explore: fresh seeds, which a failure prints
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so their children


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A book of two small chapters, and the folder it lies in as the current one."""
    small_book.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def sample_path(tmp_path_factory):
    """A small dilepton sample, without the underlying event."""
    path = tmp_path_factory.mktemp("samples") / "dilepton.root"
    events.simulate("ttbar_dilepton", 40, path, seed=5, underlying_event=False)
    return path


@pytest.fixture(scope="session")
def sample(sample_path):
    return events.load(sample_path)


@pytest.fixture(scope="session")
def turned():
    """Give a function that moves momenta: (..., 4) or (..., 2) rotated about the beam, after reflections of y and z."""

    def move(p, angle, signs):
        space = p if p.shape[-1] == 2 else p[..., 1:]
        x, y = space[..., 0], signs[0] * space[..., 1]
        c, s = np.cos(angle), np.sin(angle)
        plane = torch.stack([c * x - s * y, s * x + c * y], -1)
        return plane if p.shape[-1] == 2 else torch.cat([p[..., :1], plane, signs[1] * p[..., 3:]], -1)

    return move
