import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

from rewind import events

settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
)
settings.load_profile("steady")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sample_path(tmp_path_factory):
    """A small dilepton sample, without the underlying event."""
    path = tmp_path_factory.mktemp("samples") / "dilepton.root"
    events.simulate("ttbar_dilepton", 40, path, seed=5, underlying_event=False)
    return path


@pytest.fixture(scope="session")
def sample(sample_path):
    return events.load(sample_path)
