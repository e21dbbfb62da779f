"""The classical baseline: every assignment once, perfect jets found, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rewind import events, kinematics, paths
from rewind.errors import InputError
from rewind.partons import assignment
from rewind.partons.last_copies import recoil, true_partons


@pytest.fixture(scope="module")
def data():
    return events.load_batch(paths.locate("data/samples/tth_semileptonic.root"), 1)[:300]


@pytest.mark.parametrize(("n", "expected"), [(6, 180), (7, 1260)])
def test_hypotheses_are_all_and_different(n, expected):
    rows = assignment.hypotheses(n)
    assert len(rows) == expected
    assert len({(a, b, frozenset((c, d)), frozenset((e, f))) for a, b, c, d, e, f in rows.tolist()}) == expected
    assert all(len(set(row)) == 6 for row in rows.tolist())


def _decay(parent, mass_first, mass_second, rng):
    """Return the two children of ``parent`` ``(B, 4)``, isotropic in its frame."""
    m = kinematics.mass(parent)
    momentum = ((m**2 - (mass_first + mass_second) ** 2) * (m**2 - (mass_first - mass_second) ** 2)) ** 0.5 / 2 / m
    direction = torch.from_numpy(rng.normal(size=(len(parent), 3)))
    p = momentum[:, None] * direction / direction.norm(dim=1, keepdim=True)
    first = torch.cat([(momentum**2 + mass_first**2).sqrt()[:, None], p], 1)
    rest = torch.zeros_like(parent)
    rest[:, 0] = m
    first = kinematics.boost_between(first, rest, parent)
    return first, parent - first


def test_the_assignment_finds_perfect_jets(data):
    """With quarks for jets, the true neutrino for missing momentum and narrow masses, χ² gives the truth back."""
    rng = np.random.default_rng(3)
    p = kinematics.with_mass(true_partons(data)[:, :3, 1:], torch.tensor([125.0, 172.5, 172.5]).double())
    b1, b2 = _decay(p[:, 0], 5.0, 5.0, rng)
    w_had, b_had = _decay(p[:, 1], 80.38, 5.0, rng)
    w_lep, b_lep = _decay(p[:, 2], 80.38, 5.0, rng)
    q1, q2 = _decay(w_had, 0.1, 0.1, rng)
    lepton, neutrino = _decay(w_lep, 1e-3, 0.0, rng)
    jets = torch.stack([b1, b_had, b_lep, b2, q1, q2], 1)
    mask = torch.ones(len(jets), 6, dtype=torch.bool)
    tags = mask & (torch.arange(6) < 4)
    perfect = replace(
        data, jets=jets, jet_mask=mask, btag=tags, leptons=lepton[:, None], met=neutrino[:, 1:3], truth=None
    )
    narrow = assignment.Masses((125, 1), (80.38, 1), (172.5, 1), (172.5, 1))
    assigned = assignment.assign(perfect, narrow, n_jets=6)
    right = ((assigned[:, :3] - p).abs().flatten(1).amax(1) < 1.0).double().mean()
    assert right > 0.9
    torch.testing.assert_close(assigned[:, 3], recoil(assigned[:, :3].sum(1)))
    order, extra = torch.tensor([4, 0, 6, 2, 5, 1, 3]), torch.tensor([20.0, 12.0, 0.0, 16.0]).double()
    seven = torch.cat([jets, extra.expand(len(jets), 1, 4)], 1)[:, order]
    everywhere = torch.ones(len(jets), 7, dtype=torch.bool)
    shuffled = replace(perfect, jets=seven, jet_mask=everywhere, btag=torch.cat([tags, tags[:, -1:]], 1)[:, order])
    names = assignment.scores(shuffled, narrow, n_jets=7, untagged=1e3)
    assert (names.sum(1) == torch.tensor([1.0, 1.0, 2.0, 2.0])).all()
    expected = torch.tensor([3, 1, 0, 3, 2, 2, -1])[order]
    named = torch.where(names.sum(2) > 0, names.argmax(2), -1)
    assert (named == expected).all(1).double().mean() > 0.85


def test_the_scale_is_the_weighted_median_and_recoils_anew(data):
    partons = true_partons(data)
    torch.testing.assert_close(assignment.fit_scale(partons, partons * 0.5), torch.full((3,), 2.0).double())
    half = torch.arange(len(data)) % 2 == 0
    mixed = torch.where(half[:, None, None], partons * 0.5, partons * 0.25)
    weight = torch.where(half, 0.0, 1.0)
    scale = assignment.fit_scale(partons, mixed, weight)
    torch.testing.assert_close(scale, torch.full((3,), 4.0).double())
    torch.testing.assert_close(assignment.rescaled(partons, torch.ones(3)), partons)


def test_a_scan_is_an_assignment_for_each_price(data):
    masses = assignment.Masses((110, 20), (78, 20), (160, 30), (165, 25))
    prices = (0.0, 4.0, 1e3)
    for price, assigned in zip(prices, assignment.scan(data[:50], masses, prices, n_jets=6), strict=True):
        torch.testing.assert_close(assigned, assignment.assign(data[:50], masses, n_jets=6, untagged=price))


REFUSED = [
    (lambda _: assignment.hypotheses(5), "six quarks need six jets"),
    (lambda data: assignment.fit_masses(data[:20], n_jets=6), "at least 100"),
    (lambda data: assignment.fit_scale(true_partons(data), true_partons(data), -data.weight), "weights: the sum is -"),
    (lambda data: assignment.closeness(replace(data[:5], truth=None), n_jets=6), "no true higgs"),
]


@pytest.mark.parametrize(("call", "line"), REFUSED)
def test_wrong_requests_are_refused(data, call, line):
    with pytest.raises(InputError, match=line):
        call(data)
