"""What is shipped is what its list says: checksums, sizes, processes."""

import re
from hashlib import sha256
from pathlib import Path

from rewind import events
from rewind.nn import checkpoints

DATA = Path(__file__).parents[1] / "data"
LISTED = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (DATA / "README.md").read_text(), re.MULTILINE))


def test_every_file_is_listed_with_its_checksum():
    folders = ("samples", "checkpoints")
    there = {f"{folder}/{path.name}" for folder in folders for path in (DATA / folder).glob("[!.]*")}
    assert there == LISTED.keys()
    for name, digest in LISTED.items():
        assert sha256((DATA / name).read_bytes()).hexdigest() == digest


def test_samples_are_small_and_there_is_one_for_each_process():
    samples = list((DATA / "samples").glob("*.root"))
    assert sum(path.stat().st_size for path in samples) < 65e6
    assert {events.metadata(path)["process"] for path in samples} == set(events.PROCESSES)
    for path in samples:
        about = events.metadata(path)
        if about["generated_fraction"] == 0:  # detector-level samples keep no other hard processes
            assert about["levels"] == ["detector"]
            continue
        assert about["generated_fraction"] == 0.1
        n = len(events.load_generated(path))
        assert abs(n - 0.1 * about["n_generated"]) < 5 * (0.09 * about["n_generated"]) ** 0.5


def test_checkpoints_say_how_they_were_trained():
    for path in (DATA / "checkpoints").glob("*.safetensors"):
        about = checkpoints.describe(path)
        assert about["training"]["device"]
        if path.stem.endswith("_sampler"):
            assert about["training"]["evaluations"] >= 1_000_000
        else:
            assert len(about["training"]["losses"]) == about["training"]["epochs"]
