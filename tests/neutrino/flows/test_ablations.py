"""Borrowed and frozen encoders, and trials that take the same steps."""

from pathlib import Path

import pytest
import torch

from rewind.errors import InputError
from rewind.events import load_batch
from rewind.neutrino.flows import ablations, pairing_network
from rewind.neutrino.flows.flow import neutrino_flow
from rewind.neutrino.flows.inputs import MAX_JETS, event_tensor

SIZE = {"encoder_layers": 1, "flow_layers": 1, "bins": 4, "hidden": 16, "solutions": False}
RUN = {"n_rows": 256, "epochs": 2, "batch_size": 64, "n_sampled": 20, "device": "cpu"}


@pytest.fixture(scope="module")
def tensors():
    path = Path(__file__).parents[3] / "data" / "samples" / "ttbar_dilepton.root"
    data = load_batch(path, 2).with_jets(MAX_JETS)[:600]
    neutrinos, events = data.truth.neutrinos.float(), event_tensor(data)
    return [(neutrinos[part], events[part]) for part in (slice(300), slice(300, 400), slice(400, 600))]


def flow(width=16, seed=1):
    torch.manual_seed(seed)
    return neutrino_flow(2, width=width, **SIZE)


def teacher(width=16):
    torch.manual_seed(9)
    return pairing_network.pairing_network(2, width=width, encoder_layers=1).eval()


def test_a_borrowed_encoder_sees_what_the_teacher_sees(tensors):
    (_, event), student, master = tensors[1], flow().eval(), teacher()
    ablations.borrow_encoder(student, master)
    with torch.no_grad():
        expected, _ = master.encoder.exchanged(event)
        student.encoder.transformer.norm.load_state_dict(master.encoder.transformer.norm.state_dict())
        own, _ = student.encoder.exchanged(event)
    assert torch.equal(own, expected)


def test_training_leaves_a_frozen_encoder_alone_and_teaches_the_rest(tensors):
    student = ablations.freeze_encoder(ablations.borrow_encoder(flow(), teacher()))
    before = {name: values.clone() for name, values in student.state_dict().items()}
    ablations.trial(student, *tensors, n_events=256, **RUN)
    frozen = ("encoder.parts.0.", "encoder.transformer.encoder.")
    changed = {name for name, values in student.state_dict().items() if not torch.equal(values, before[name])}
    assert changed
    assert not [name for name in changed if name.startswith(frozen)]
    assert any(name.startswith("encoder.transformer.reading") for name in changed)


def test_a_trial_learns_and_can_be_repeated(tensors):
    first, again = (ablations.trial(flow(), *tensors, n_events=200, **RUN) for _ in range(2))
    torch.testing.assert_close(first, again)
    untrained = flow().fit_scales(*tensors[0])
    with torch.no_grad():
        assert first.loss.mean() < -untrained.log_prob(*tensors[2]).mean()
    assert first.loss.shape == (200,)
    assert first.residual.shape == (20, 2, 3)


def test_what_cannot_be_is_refused(tensors):
    with pytest.raises(InputError, match="another width"):
        ablations.borrow_encoder(flow(), teacher(width=32))
    with pytest.raises(InputError, match="n_events"):
        ablations.trial(flow(), *tensors, n_events=301, **RUN)
