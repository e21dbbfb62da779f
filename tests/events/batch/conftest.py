"""Shipped samples as one batch each, read once."""

import pytest

from rewind import events, paths


def _records(name):
    records = events.load(paths.locate(f"data/samples/{name}.root"))
    return records[records.pass_detector]


@pytest.fixture(scope="package")
def dilepton_records():
    return _records("ttbar_dilepton")


@pytest.fixture(scope="package")
def one_lepton_records():
    return _records("ttbar_semileptonic")


@pytest.fixture(scope="package")
def tth_records():
    return _records("tth_semileptonic")


@pytest.fixture(scope="package")
def dilepton(dilepton_records):
    return events.from_records(dilepton_records, 2)


@pytest.fixture(scope="package")
def one_lepton(one_lepton_records):
    return events.from_records(one_lepton_records, 1)


@pytest.fixture(scope="package")
def tth(tth_records):
    return events.from_records(tth_records, 1)
