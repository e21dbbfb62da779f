import pytest

from rewind import events, paths
from rewind.transfer import quark_jets


@pytest.fixture(scope="session")
def records():
    return events.load(paths.locate("data/samples/tth_semileptonic_test.root"))[:1200]


@pytest.fixture(scope="session")
def event(records):
    return quark_jets.from_records(records)
