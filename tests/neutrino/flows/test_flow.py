"""The neutrinos' posterior: exact changes of variables, symmetries that hold exactly, densities in GeV⁻³ and GeV⁻⁶."""

import math
from dataclasses import replace

import pytest
import torch

from chance import assert_agrees
from rewind import events
from rewind.errors import InputError
from rewind.neutrino.classical import jet_scale, pairing
from rewind.neutrino.flows import mass_flow, training
from rewind.neutrino.flows.charts import CHARTS
from rewind.neutrino.flows.flow import neutrino_flow
from rewind.neutrino.flows.hypotheses import hypotheses
from rewind.neutrino.flows.inputs import MAX_JETS, event_tensor, unpack
from rewind.neutrino.flows.mass_coordinates import mass_coordinates, masses
from rewind.neutrino.verdicts import point_estimates
from rewind.nn import checkpoints
from rewind.nn.transformer import SetEncoder
from rewind.physics.circles import direction

SAMPLES = {1: "data/samples/ttbar_semileptonic_validation.root", 2: "data/samples/ttbar_dilepton_validation.root"}
SMALL = {"width": 16, "encoder_layers": 1, "flow_layers": 2, "hidden": 24, "bins": 6}


@pytest.fixture(scope="module", params=[1, 2], ids=["one neutrino", "two neutrinos"])
def data(request):
    return events.load_batch(SAMPLES[request.param], request.param).with_jets(MAX_JETS)[:400]


@pytest.fixture(scope="module")
def model(data):
    return trembling(neutrino_flow(data.n_legs, coordinates=("folded", "masses")[data.n_legs - 1], **SMALL), data)


def trembling(model, data):
    """The small flow away from its nearly trivial initial state, in double precision."""
    torch.manual_seed(3)
    model.fit_scales(data.truth.neutrinos.float(), model.featurize(data))
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.1 * torch.randn_like(values))
    return model.double().eval()


def turned(data, angle, *, flip_y=1.0, flip_z=1.0):
    """The events rotated about the beam and reflected."""

    def turn(p):
        *energy, x, y, z = p.unbind(-1)
        x, y = math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
        return torch.stack([*energy, x, flip_y * y, flip_z * z], -1)

    met = turn(torch.cat([data.met, torch.zeros_like(data.met[:, :1])], 1))[:, :2]
    moved = {name: turn(getattr(data, name)) for name in ("leptons", "jets")}
    truth = replace(data.truth, neutrinos=turn(data.truth.neutrinos), tops=turn(data.truth.tops))
    return replace(data, met=met, **moved, truth=truth)


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_undone_and_have_autograds_jacobian(data, name):
    chart, event = CHARTS[name](data.n_legs), event_tensor(data).double()
    target = data.truth.neutrinos.flatten(1)
    coordinates, log_det = chart(target, event)
    torch.testing.assert_close(chart.inverse(coordinates, event), target, rtol=1e-6, atol=1e-5)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x, y: chart(x[None], y[None])[0][0]))(target, event)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["transverse", "folded"])
def test_no_coordinate_takes_more_than_a_proton_has(data, name):
    chart, event = CHARTS[name](data.n_legs), event_tensor(data).double()
    wild = 30 * torch.randn(len(data), 3 * data.n_legs, dtype=torch.float64)
    wild[:, : 2 * data.n_legs] /= 30
    neutrinos = chart.inverse(wild, event).reshape(-1, 3)
    assert torch.isfinite(neutrinos).all()
    assert neutrinos[:, 2].abs().max() <= 6500 * (1 + 1e-6)


def test_density_is_autograds_in_momentum_space(data):
    """log p = log of the latent's normal density + log |dz/dp|, the whole way from GeV."""
    model = trembling(neutrino_flow(data.n_legs, coordinates="folded", **SMALL), data)
    event = model.featurize(data[:4]).double()

    def latent(neutrinos, one):
        coordinates, _ = model.chart(neutrinos.flatten()[None], one[None])
        return model.flow.inverse(model.target_scale(coordinates), context=model.encoder(one[None]))[0]

    for neutrinos, one in zip(data.truth.neutrinos[:4], event, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda p, one=one: latent(p, one), neutrinos).flatten(1)
        z = latent(neutrinos, one)
        expected = -0.5 * (z**2).sum() - 0.5 * len(z) * math.log(2 * math.pi) + torch.linalg.slogdet(jacobian).logabsdet
        log_density = model.log_prob(neutrinos[None], one[None])[0]
        torch.testing.assert_close(log_density, expected, rtol=0, atol=1e-4)


def integral(model, event, neutrinos, log_proposal):
    """The integral of a density and its error by importance sampling, ``neutrinos`` ``(n, L, 3)`` being proposals."""
    with torch.no_grad():
        weight = (model.log_prob(neutrinos[None], event)[0] - log_proposal).exp()
    return weight.mean(), weight.std() / len(weight) ** 0.5


def wide_normal(values, factor=1.4):
    return torch.distributions.MultivariateNormal(values.mean(0), torch.cov(values.T) * factor**2)


def test_density_integrates_to_one_in_a_chart(data):
    """Proposals are normal in the chart's coordinates."""
    model, chart = trembling(neutrino_flow(data.n_legs, coordinates="folded", **SMALL), data), CHARTS["folded"]
    torch.manual_seed(5)
    event, chart = model.featurize(data[:1]).double(), chart(data.n_legs)
    normal = wide_normal(chart(model.sample(event, 3000)[0].flatten(1), event.expand(3000, -1))[0])
    proposed = normal.sample((60_000,))
    neutrinos = chart.inverse(proposed, event.expand(len(proposed), -1))
    log_proposal = normal.log_prob(proposed) + chart(neutrinos, event.expand(len(proposed), -1))[1]
    total, error = integral(model, event, neutrinos.unflatten(1, (-1, 3)), log_proposal)
    assert error < 0.05
    assert_agrees(total, 1, error)


def test_density_integrates_to_one_in_masses_and_angles(data, model):
    """Proposals are normal in the masses, and near some draw in the angles; masses beyond all floats weigh nothing."""
    if data.n_legs == 1:
        pytest.skip("two legs only")
    torch.manual_seed(5)
    known = data[data.matched][:1]
    event = model.featurize(known, pairing.true_pairing(known)).double()
    frame, circles = unpack(event, 2).frame, hypotheses(event).circles

    def swap(p):
        """Between (n, 2, 3) of the laboratory and of the canonical frame, by leg."""
        return p.movedim(1, 0)[None]

    inside = frame.by_leg(frame.enter(swap(model.sample(event, 2000)[0])))[0].movedim(0, 1)
    m_w_squared, excess, drawn, _ = circles.enter(inside)
    normal = wide_normal(torch.cat(mass_coordinates(circles, m_w_squared, excess)[:2], 1), 1.3)
    z, near = normal.sample((8_000,)), torch.distributions.VonMises(drawn[:400], torch.tensor(4.0).double())
    z = z[(z.abs() < 7).all(1)]
    angle = near.sample((20,)).flatten(0, 1)[torch.randperm(8_000)][: len(z)]
    log_near = near.log_prob(angle[:, None]).sum(2).logsumexp(1) - math.log(400)
    m_w_squared, excess = masses(circles, z[:, :2], z[:, 2:])
    inside = (circles.curve(m_w_squared, excess) @ direction(angle)[..., None])[..., 0]
    log_det = circles.enter(inside)[3] + mass_coordinates(circles, m_w_squared, excess)[2]
    neutrinos = frame.leave(frame.by_leg(swap(inside)))[0].movedim(0, 1)
    log_proposal = normal.log_prob(z) + log_det.sum(1) + log_near
    total, error = integral(model, event, neutrinos, log_proposal)
    assert error < 0.1
    assert_agrees(total * len(z) / 8_000, 1, error)


def test_no_draw_takes_more_than_a_beam_has(data, model, monkeypatch):
    """Nor does redrawing change which event a draw belongs to."""
    if data.n_legs == 1:
        pytest.skip("two legs only")
    event = model.featurize(data[:10]).double()
    torch.manual_seed(1)
    assert (model.sample(event, 40).norm(dim=-1) > 400).any()
    monkeypatch.setattr(mass_flow, "SQRT_S", 800.0)
    drawn = model.sample(event, 40)
    assert drawn.norm(dim=-1).max() <= 400
    assert torch.isfinite(model.log_prob(drawn, event)).all()


def test_a_mixture_over_pairings(data, model):
    """Untold events: the probabilities of both pairings sum to one, and the exchange of the jets exchanges them."""
    if data.n_legs == 1:
        pytest.skip("two legs only")
    probability = model.pairing_probability(model.featurize(data).double())
    torch.testing.assert_close(probability.sum(1), torch.ones(len(data), dtype=torch.float64))
    told = model.pairing_probability(model.featurize(data, pairing.true_pairing(data)).double())
    assert (told[data.matched] == torch.tensor([1.0, 0.0], dtype=torch.float64)).all()
    assert torch.equal(told[~data.matched], probability[~data.matched])
    true = pairing.true_pairing(data)
    assert torch.equal(model.choose(model.featurize(data, true).double())[data.matched], true[data.matched])
    flipped = model.choose(model.featurize(data, true.flip(1)).double())
    assert torch.equal(flipped[data.matched], true.flip(1)[data.matched])


def test_solutions_that_no_network_reads_need_not_be_solved(data):
    told, untold = event_tensor(data), event_tensor(data, solutions=False)
    parts, without = (unpack(event, data.n_legs) for event in (told, untold))
    assert torch.equal(parts.solutions["jets"], without.solutions["jets"])
    assert all((values == 0).all() for name, values in without.solutions.items() if name != "jets")
    torch.testing.assert_close(parts.jets, without.jets)


def test_density_of_draws_is_that_of_each(data, model):
    event = model.featurize(data[:6]).double()
    draws = model.sample(event, 5)
    one_by_one = torch.stack([model.log_prob(draws[:, k], event) for k in range(5)], 1)
    torch.testing.assert_close(model.log_prob(draws, event), one_by_one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("flips", [{}, {"flip_y": -1.0}, {"flip_z": -1.0}])
def test_rotations_and_reflections_change_no_density(data, model, flips):
    other = turned(data, 1.1, **flips)
    first = model.log_prob(data.truth.neutrinos, model.featurize(data).double())
    second = model.log_prob(other.truth.neutrinos, model.featurize(other).double())
    torch.testing.assert_close(first, second, rtol=0, atol=5e-3)


def test_exchange_of_the_legs_changes_no_density(data, model):
    if data.n_legs == 1:
        pytest.skip("one leg only")
    true = {name: getattr(data.truth, name).flip(1) for name in ("neutrinos", "leptons", "tops", "b_jets")}
    swapped = {name: getattr(data, name).flip(1) for name in ("leptons", "is_muon", "charge")}
    other = replace(data, **swapped, truth=replace(data.truth, **true))
    for told in (None, pairing.true_pairing):
        first, second = (
            model.log_prob(d.truth.neutrinos, model.featurize(d, told and told(d)).double()) for d in (data, other)
        )
        torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_draws_turn_with_the_event(data, model):
    other = turned(data[:5], 2.0, flip_z=-1.0)
    drawn = []
    for here in (data[:5], other):
        torch.manual_seed(7)
        drawn.append(model.sample(model.featurize(here).double(), 20))
    here = replace(data[:5], truth=replace(data.truth[:5], neutrinos=drawn[0].flatten(1, 2)))
    there = turned(here, 2.0, flip_z=-1.0).truth.neutrinos.reshape(drawn[1].shape)
    torch.testing.assert_close(there, drawn[1], rtol=1e-3, atol=0.5)


def test_a_told_pairing_matters_and_an_untold_one_does_not_leak(data, model):
    told, untold = model.featurize(data, pairing.true_pairing(data)).double(), model.featurize(data).double()
    unknown = torch.full((len(data), 2), -1)
    assert torch.equal(model.featurize(data, unknown).double(), untold)
    change = (model.log_prob(data.truth.neutrinos, told) - model.log_prob(data.truth.neutrinos, untold)).abs()
    assert change[data.matched].median() > 1e-3
    assert (change[~data.matched] < 1e-9).all()


def test_batches_of_one_and_of_none(data, model):
    torch.manual_seed(2)
    assert model.sample(model.featurize(data[:1]).double(), 3).shape == (1, 3, data.n_legs, 3)
    empty = model.featurize(data[:0]).double()
    assert model.sample(empty, 3).shape == (0, 3, data.n_legs, 3)
    assert model.log_prob(data.truth.neutrinos[:0], empty).shape == (0,)
    whole = model.log_prob(data.truth.neutrinos, model.featurize(data).double())
    singles = [data[i] for i in (0, 7)]
    alone = torch.cat([model.log_prob(one.truth.neutrinos, model.featurize(one).double()) for one in singles])
    torch.testing.assert_close(alone, whole[[0, 7]], rtol=0, atol=1e-4)


def test_analytic_solutions_in_the_event_tensor_lie_on_the_mass_shells(data):
    parts = unpack(event_tensor(data).double(), data.n_legs)
    momenta = parts.solutions["neutrinos"]
    total = momenta + parts.leptons[:, None, :, 1:4]
    energy = momenta.norm(dim=-1) + parts.leptons[:, None, :, 0]
    mass = (energy**2 - (total**2).sum(-1)).clip(0).sqrt()
    exact = parts.solutions["present"] > 0
    if data.n_legs == 1:
        exact = exact & (exact.sum(1) == exact.shape[1])[:, None]  # both roots of both jets: the roots are real
    assert 0.2 < exact.double().mean() < 1
    assert ((mass[exact] - 80.38).abs() < 0.05).all()


def test_a_set_encoder_knows_no_order_and_no_absent_token():
    torch.manual_seed(0)
    encoder = SetEncoder(16, layers=2).eval()
    tokens, present = torch.randn(300, 9, 16), torch.rand(300, 9) < 0.6
    present[:, 0] = True
    expected = encoder(tokens, present)
    order = torch.rand(300, 9).argsort(1)
    shuffled = tokens.gather(1, order[..., None].expand(-1, -1, 16)), present.gather(1, order)
    torch.testing.assert_close(encoder(*shuffled), expected, rtol=0, atol=1e-5)
    other = torch.where(present[..., None], tokens, torch.randn_like(tokens))
    torch.testing.assert_close(encoder(other, present), expected, rtol=0, atol=1e-5)
    one = torch.cat([encoder(tokens[i : i + 1], present[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(one, expected[:3], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_training_learns_and_its_checkpoint_holds_the_model(data, tmp_path):
    path = tmp_path / "flow.safetensors"
    model, record = training.train_flow(
        data, data, path, size=SMALL, epochs=25, batch_size=128, ema_decay=None, device="cpu"
    )
    losses = [loss["validation_loss"] for loss in record["losses"]]
    assert losses[-1] < losses[0] - 0.5
    loaded = training.load_flow(path, data.n_legs)
    event = model.featurize(data)
    assert torch.equal(loaded.featurize(data), event)
    neutrinos = data.truth.neutrinos.float()
    assert torch.equal(loaded.log_prob(neutrinos, event), model.log_prob(neutrinos, event))
    about = checkpoints.describe(path)
    assert about["training"]["n_training_events"] == len(data)
    with pytest.raises(InputError, match="n_legs"):
        training.load_flow(path, 3 - data.n_legs)


def test_estimators_on_draws_that_are_known():
    draws = torch.arange(12.0).reshape(2, 6)
    log_prob = torch.zeros(2, 6)
    log_prob[0, 4], log_prob[1, 1] = 1.0, 1.0
    assert point_estimates.one(draws).tolist() == [0.0, 6.0]
    assert point_estimates.mean(draws).tolist() == [2.5, 8.5]
    assert point_estimates.mode(draws, log_prob).tolist() == [4.0, 7.0]
    assert point_estimates.nearest_constraints(draws, -log_prob).tolist() == [4.0, 7.0]


def test_the_true_neutrino_is_nearer_to_the_constraints_than_a_random_one(data):
    known = data[data.matched]
    bottoms = jet_scale.leg_jets(known, known.truth.b_jets)[:, : known.n_legs]
    wrong = known.truth.neutrinos + 60 * torch.randn_like(known.truth.neutrinos)
    both = torch.stack([known.truth.neutrinos, wrong], 1)
    distance = point_estimates.constraint_distance(both, known.leptons, bottoms)
    assert (distance[:, 0] < distance[:, 1]).double().mean() > 0.8
    with pytest.raises(InputError, match="expected"):
        point_estimates.constraint_distance(known.truth.neutrinos, known.leptons, bottoms)


def test_bad_input(data, model):
    one = data[:3]
    nan = replace(one, met=one.met * math.nan)
    no_jet = replace(one, jet_mask=torch.zeros_like(one.jet_mask))
    one_tag = replace(one, btag=one.btag & (one.btag.cumsum(1) == 1))
    light = replace(one, leptons=one.leptons * torch.tensor([0.5, 1, 1, 1]))
    blank = replace(one, leptons=torch.zeros_like(one.leptons))
    for bad, complaint in (
        (nan, "not finite"),
        (no_jet, "no jet"),
        (one_tag, "b-tagged"),
        (light, "E < "),
        (blank, "no momentum"),
    ):
        with pytest.raises(InputError, match=complaint):
            model.featurize(bad)
    if data.n_legs == 2:
        twin = replace(one, leptons=one.leptons[:, :1].expand(-1, 2, -1))
        with pytest.raises(InputError, match="identical"):
            model.featurize(twin)
    with pytest.raises(InputError, match="no such jet"):
        model.featurize(one, torch.full((3, 2), 9))
    with pytest.raises(InputError, match="shape"):
        model.featurize(one, torch.zeros(2, 2, dtype=torch.long))
    with pytest.raises(InputError, match="event tensor of shape"):
        model.sample(model.featurize(one)[:, :-1])
    with pytest.raises(InputError, match="leptons"):
        neutrino_flow(3 - data.n_legs, **SMALL).featurize(one)
    with pytest.raises(InputError, match="coordinates"):
        neutrino_flow(data.n_legs, coordinates="polar")
    with pytest.raises(InputError, match="n_legs"):
        neutrino_flow(3)
    with pytest.raises(InputError, match="true neutrinos"):
        training.flow_tensors(model, replace(one, truth=replace(one.truth, neutrinos=one.truth.neutrinos * math.nan)))
