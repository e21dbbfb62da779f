"""Shares of solutions: partitions, Jacobians against automatic differentiation, symmetries, known probabilities."""

from pathlib import Path

import pytest
import torch

from rewind import events, kinematics
from rewind.errors import InputError
from rewind.neutrino.classical import ambiguity, ellipse, pairing
from rewind.neutrino.flows.inputs import MAX_JETS
from rewind.physics.constants import M_TOP, M_W

SCALE = torch.tensor([30.0, 30.0, 60.0], dtype=torch.float64)


def decays(n, seed=1):
    """Return leptons and b quarks ``(n, 2, 4)`` and neutrinos ``(n, 2, 3)`` of two tops on their mass shells."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def split(parent, mass):
        """Decay ``parent`` into something of ``mass`` and something massless, isotropically."""
        total = kinematics.mass(parent)
        p = (total**2 - mass**2) / (2 * total)
        axis = torch.nn.functional.normalize(normal(n, 3), dim=1) * p[:, None]
        one = torch.cat([(p**2 + mass**2).sqrt()[:, None], axis], 1)
        other = torch.cat([p[:, None], -axis], 1)
        rest = torch.cat([total[:, None], torch.zeros_like(axis)], 1)
        return kinematics.boost_between(one, rest, parent), kinematics.boost_between(other, rest, parent)

    leptons, bottoms, neutrinos = [], [], []
    for _ in range(2):
        p = normal(n, 3) * torch.tensor([80.0, 80.0, 300.0])
        top = torch.cat([(M_TOP**2 + p.square().sum(1, keepdim=True)).sqrt(), p], 1)
        w, b = split(top, torch.tensor(M_W, dtype=torch.float64))
        lepton, neutrino = split(w, torch.tensor(0.0, dtype=torch.float64))
        leptons.append(lepton)
        bottoms.append(b)
        neutrinos.append(neutrino[:, 1:])
    return torch.stack(leptons, 1), torch.stack(bottoms, 1), torch.stack(neutrinos, 1)


@pytest.fixture(scope="module")
def solved():
    leptons, bottoms, neutrinos = decays(300)
    met = neutrinos[..., :2].sum(1)
    crossings = ellipse.solve(*leptons.unbind(1), *bottoms.unbind(1), met)
    together = torch.stack([crossings.neutrino, crossings.antineutrino], 2)
    return leptons, bottoms, neutrinos, together.nan_to_num(0.0), crossings.valid


def test_candidates_are_the_solutions_of_the_events_that_have_some():
    path = Path(__file__).parents[3] / "data" / "samples" / "ttbar_dilepton.root"
    data = events.load_batch(path, 2).with_jets(MAX_JETS)[:300]
    listed = ambiguity.candidates(data, pairing.true_pairing(data))
    assert data.matched[listed.event].all()
    assert listed.valid[:, 0].all()
    assert (listed.solutions[~listed.valid] == 0).all()
    total = listed.solutions[..., :2].sum(2)
    assert torch.allclose(
        total[listed.valid], data.met[listed.event][:, None].expand(-1, 4, -1)[listed.valid], atol=1e-3
    )
    w = listed.leptons[:, None] + torch.cat([listed.solutions.norm(dim=-1, keepdim=True), listed.solutions], -1)
    masses = kinematics.mass(torch.stack([w, w + listed.bottoms[:, None]], -2))[listed.valid]
    assert torch.allclose(masses, torch.tensor([M_W, M_TOP], dtype=masses.dtype).expand_as(masses), atol=0.05)


def test_every_solution_is_nearest_to_itself_and_the_truth_to_one(solved):
    _, _, neutrinos, solutions, valid = solved
    own = ambiguity.nearest(solutions, solutions, valid, SCALE)
    assert (own == torch.arange(4))[valid].all()
    right = ambiguity.nearest(neutrinos[:, None], solutions, valid, SCALE)[:, 0]
    away = (solutions[torch.arange(len(right)), right] - neutrinos).flatten(1).norm(dim=1)
    assert (away < 1e-4 * neutrinos.flatten(1).norm(dim=1)).double().mean() > 0.99


def test_shares_sum_to_one_and_follow_the_draws(solved):
    _, _, _, solutions, valid = solved
    counts = torch.tensor([3, 1, 2, 4])
    draws = torch.where(valid[..., None, None], solutions, solutions[:, :1]).repeat_interleave(counts, 1)
    expected = torch.where(valid, counts, 0).double()
    expected[:, 0] += torch.where(valid, 0, counts).sum(1)
    shares = ambiguity.shares(draws, solutions, valid, SCALE)
    assert torch.allclose(shares.double(), expected / 10)
    smoothed = ambiguity.shares(draws, solutions, valid, SCALE, pseudo=0.5)
    assert torch.allclose(smoothed.sum(1), torch.ones(len(valid)))
    assert (smoothed[valid] > 0).all()
    assert (smoothed[~valid] == 0).all()


def test_shares_turn_with_the_event_about_the_beam(solved):
    _, _, _, solutions, valid = solved
    noise = torch.randn(len(valid), 20, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    draws = solutions[:, :1] + 60 * noise
    turn = torch.tensor([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    before = ambiguity.shares(draws, solutions, valid, SCALE)
    after = ambiguity.shares(draws @ turn, solutions @ turn, valid, SCALE)
    assert torch.allclose(before, after)


def test_events_without_solution_get_nothing():
    nothing = torch.zeros(2, 4, 2, 3), torch.zeros(2, 4, dtype=torch.bool)
    assert (ambiguity.nearest(torch.ones(2, 5, 2, 3), *nothing, SCALE) == -1).all()
    assert (ambiguity.shares(torch.ones(2, 5, 2, 3), *nothing, SCALE, pseudo=1.0) == 0).all()
    assert (ambiguity.normalized(torch.zeros(2, 4), nothing[1]) == 0).all()


def test_the_jacobian_is_that_of_automatic_differentiation(solved):
    leptons, bottoms, _, solutions, valid = solved

    def equations(flat, lepton, bottom):
        p = flat.reshape(2, 3)
        four = torch.cat([p.norm(dim=1, keepdim=True), p], 1)
        squares = [kinematics.mass_squared(four + lepton), kinematics.mass_squared(four + lepton + bottom)]
        return torch.cat([*squares, p[:, :2].sum(0)])

    jacobian = torch.func.vmap(torch.func.jacrev(equations))
    for k in range(4):
        use = valid[:, k]
        J = jacobian(solutions[use, k].flatten(1), leptons[use], bottoms[use])
        expected = -torch.linalg.slogdet(J).logabsdet - solutions[use, k].norm(dim=-1).log().sum(1)
        log_weights = ambiguity.coarea_log_weights(leptons, bottoms, solutions, valid)[use, k]
        assert torch.allclose(log_weights, expected, atol=1e-3)


def test_features_do_not_change_when_the_event_is_mirrored(solved):
    leptons, bottoms, _, solutions, valid = solved
    plain = ambiguity.features(leptons, bottoms, solutions, valid)
    flip = torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    mirrored = ambiguity.features(leptons * flip, bottoms * flip, solutions * flip[1:], valid)
    assert torch.allclose(plain, mirrored, atol=1e-6)
    assert (plain[~valid] == 0).all()
    exchanged = ambiguity.features(leptons.flip(1), bottoms.flip(1), solutions.flip(2), valid)
    assert torch.allclose(plain, exchanged, atol=1e-6)


def test_a_known_prior_is_found_again():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(20_000, 4, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 5.0])
    valid = torch.arange(4) < torch.tensor([[2], [4]]).repeat(10_000, 1)
    known = torch.tensor([0.8, -0.1], dtype=torch.float64)
    p = ambiguity.normalized(x @ known, valid)
    right = torch.multinomial(p, 1, generator=generator)[:, 0]
    prior = ambiguity.fit_prior(x, valid, right)
    assert torch.allclose(prior, known, atol=0.03)
    gained = ambiguity.log_score(p, valid, right).mean()
    entropy = -(p * p.clip(1e-300).log()).sum(1)
    assert gained == pytest.approx(float((valid.sum(1).log() - entropy).mean()), abs=0.02)


def test_equal_weights_gain_nothing():
    valid = torch.tensor([[True, True, False, False], [True] * 4])
    equal = ambiguity.normalized(torch.zeros(2, 4), valid)
    assert torch.allclose(ambiguity.log_score(equal, valid, torch.tensor([1, 3])), torch.zeros(2))


def test_the_resolution_of_known_posteriors():
    generator = torch.Generator().manual_seed(4)
    centre = 500 * torch.randn(400, 1, 2, 3, generator=generator)
    draws = centre + torch.randn(400, 101, 2, 3, generator=generator) * torch.tensor([10.0, 20.0, 50.0])
    assert ambiguity.resolution(draws).tolist() == pytest.approx([10, 20, 50], rel=0.03)


def test_what_cannot_be_is_refused(solved):
    _, _, neutrinos, solutions, valid = solved
    with pytest.raises(InputError, match="expected"):
        ambiguity.nearest(neutrinos, solutions, valid, SCALE)
    with pytest.raises(InputError, match="positive"):
        ambiguity.nearest(solutions, solutions, valid, 0 * SCALE)
    with pytest.raises(InputError, match="exists"):
        ambiguity.fit_prior(torch.zeros(1, 4, 1), torch.tensor([[True, False, False, False]]), torch.tensor([1]))
