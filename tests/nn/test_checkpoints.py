"""A checkpoint gives back what was saved, says what it is, and is refused where it is not whole or does not fit."""

import json
import resource

import pytest
import torch
from safetensors.torch import save_file

from rewind.errors import InputError
from rewind.neutrino.flows.flow import neutrino_flow
from rewind.nn import checkpoints
from rewind.partons.conditioner import conditioner
from rewind.toys import robot_arm

CONFIGURATION = {"noise": 0.1, "layers": 1, "bins": 4, "hidden": 8}


def _blank():
    """Stand for a builder without options."""


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    data = robot_arm.simulate(200, torch.Generator().manual_seed(1), noise=0.1)
    model = robot_arm.posterior_flow(**CONFIGURATION).fit_scales(*data).eval()
    path = tmp_path / "arm.safetensors"
    checkpoints.save(
        path,
        model,
        robot_arm.posterior_flow,
        configuration=CONFIGURATION,
        data=checkpoints.fingerprint(*data),
        training={"epochs": 3, "seconds": 1.5},
    )
    return path, model, data


def test_log_prob_is_identical(saved):
    path, model, data = saved
    torch.manual_seed(99)
    loaded = checkpoints.load(path, robot_arm.posterior_flow)
    assert torch.equal(loaded.log_prob(*data), model.log_prob(*data))


def test_says_what_it_is(saved):
    path, _, data = saved
    about = checkpoints.describe(path)
    assert about["configuration"] == CONFIGURATION | {"coordinates": "unfolded"}
    assert about["training"] == {"epochs": 3, "seconds": 1.5}
    assert about["data"] == checkpoints.fingerprint(*data)
    assert set(about["versions"]) == {"rewind", "torch"}


def test_fingerprint_sees_values_shapes_and_types():
    values = torch.arange(6.0)
    prints = {
        checkpoints.fingerprint(values),
        checkpoints.fingerprint(values.reshape(2, 3)),
        checkpoints.fingerprint(values.double()),
        checkpoints.fingerprint(values + 1e-6),
        checkpoints.fingerprint(values[:3], values[3:]),
    }
    assert len(prints) == 5


def test_leaves_no_temporary_file(saved):
    path, model, _ = saved
    before = path.read_bytes()
    with pytest.raises(TypeError):
        checkpoints.save(path, model, robot_arm.posterior_flow, configuration={"noise": object()}, data="", training={})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["folder", "x" * 300], ids=["a folder", "name too long"])
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(saved, tmp_path, name):
    (tmp_path / "folder").mkdir()
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"cannot be written \(.*\); check the path") as caught:
        checkpoints.save(tmp_path / name, saved[1], _blank, configuration={}, data="", training={})
    assert "\n" not in str(caught.value)
    assert set(tmp_path.iterdir()) == before


def test_a_full_disk_is_one_line_and_leaves_nothing(saved):
    path, model, _ = saved
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"arm\.safetensors: cannot be written"):
            checkpoints.save(path, model, _blank, configuration={}, data="", training={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_says_which_setting_differs(saved):
    with pytest.raises(InputError, match=r"bins is 4 there, 16 here; hidden is 8 there, 96 here"):
        checkpoints.load(saved[0], robot_arm.posterior_flow, noise=0.1, bins=16, hidden=96)


def test_says_which_weights_differ(saved):
    with pytest.raises(InputError, match=r"do not fit the model, first '.*': .* there, .* here"):
        checkpoints.load(saved[0], lambda **_: robot_arm.posterior_flow(noise=0.1, layers=2, bins=4, hidden=8))


def test_a_changed_default_changes_no_model(saved):
    path, model, data = saved

    def build(noise, *, coordinates="plain", layers=7, bins=7, hidden=7):
        return robot_arm.posterior_flow(noise=noise, coordinates=coordinates, layers=layers, bins=bins, hidden=hidden)

    assert torch.equal(checkpoints.load(path, build).log_prob(*data), model.log_prob(*data))


def test_an_option_left_to_a_default_is_refused(saved):
    path = saved[0]
    about, weights = checkpoints._read(path)
    checkpoints._write(path, weights, about | {"configuration": CONFIGURATION})
    with pytest.raises(InputError, match=r"arm\.safetensors: its configuration leaves coordinates to defaults"):
        checkpoints.load(path, robot_arm.posterior_flow)


def test_rewriting_completes_and_renames_and_keeps_the_rest(saved):
    path, model, data = saved
    before, weights = checkpoints._read(path)
    checkpoints._write(
        path, {f"old.{name}": values for name, values in weights.items()}, before | {"configuration": CONFIGURATION}
    )
    checkpoints.rewrite(path, robot_arm.posterior_flow, lambda name: name.removeprefix("old."))
    assert checkpoints.describe(path) == before
    assert torch.equal(checkpoints.load(path, robot_arm.posterior_flow).log_prob(*data), model.log_prob(*data))


def test_nested_and_dependent_options_are_complete():
    short = {"max_jets": 8, "roles": {"width": 8}}
    assert checkpoints.complete(conditioner, short)["roles"] == {"width": 8, "layers": 3, "heads": 4}
    assert checkpoints.complete(neutrino_flow, {"n_legs": 1})["coordinates"] == "folded"
    assert checkpoints.complete(neutrino_flow, {"n_legs": 2})["solutions"] is False
    with pytest.raises(TypeError, match="depth"):
        checkpoints.complete(conditioner, {"max_jets": 8, "depth": 2})


def test_configuration_unknown_to_the_model(saved):
    with pytest.raises(InputError, match="does not fit"):
        checkpoints.load(saved[0], lambda noise: None)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: b"PK" + raw[2:],
        lambda raw: raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:],
    ],
    ids=["truncated", "empty", "another kind", "one bit flipped"],
)
def test_damaged_file(saved, damage):
    path = saved[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"arm\.safetensors: damaged"):
        checkpoints.load(path, robot_arm.posterior_flow)


@pytest.mark.parametrize("metadata", [None, {"rewind": "{"}, {"rewind": json.dumps({"configuration": {}})}])
def test_safetensors_of_someone_else(tmp_path, metadata):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(InputError, match="not a checkpoint of this book"):
        checkpoints.describe(tmp_path / "other.safetensors")


def test_missing_file_and_folder(saved, tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoints.load(tmp_path / "absent.safetensors", robot_arm.posterior_flow)
    with pytest.raises(InputError, match="no such folder"):
        checkpoints.save(
            tmp_path / "absent" / "a.safetensors", saved[1], _blank, configuration={}, data="", training={}
        )
