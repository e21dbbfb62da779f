"""Events out of amplitudes: flavours, colours, spin correlations, and a shower that takes them over."""

from gzip import decompress

import numpy as np
import pytest
import torch

from chance import assert_agrees, assert_mean
from rewind import cli, events, kinematics
from rewind.errors import InputError
from rewind.events.chain.leading_order import hard_processes
from rewind.generation import parton_level
from rewind.integrate import VegasGrid, unweight
from rewind.physics import constants
from rewind.physics.phase_space import from_lab
from rewind.physics.spin import leading_order_correlation, opening_cosine

CHARGE = {
    1: -1 / 3,
    3: -1 / 3,
    5: -1 / 3,
    2: 2 / 3,
    4: 2 / 3,
    6: 2 / 3,
    11: -1,
    13: -1,
    12: 0,
    14: 0,
    21: 0,
    24: 1,
    25: 0,
}


@pytest.fixture(scope="module", params=parton_level.CHANNELS)
def made(request):
    integrand = parton_level.hadronic_process(request.param)
    generator = torch.Generator().manual_seed(4)
    grid = VegasGrid(integrand.dims).adapt(integrand, generator, points=20_000, iterations=4)
    points = unweight(integrand, grid, 3000, generator).points
    return request.param, parton_level.events(request.param, integrand, points, np.random.default_rng(1))


def test_each_vertex_conserves_what_it_must(made):
    _, made_events = made
    charge = np.vectorize(lambda kind: np.sign(kind) * CHARGE[abs(kind)], otypes=[float])(made_events.pdg_id)
    for mother in {-1, *made_events.mother[made_events.status == 1].tolist()}:
        children = (made_events.mother == mother) & (made_events.status > 0)
        parents = (made_events.status == -1) if mother < 0 else np.arange(len(made_events.mother)) == mother
        p_in, p_out = (made_events.momenta[:, which].sum(1) for which in (parents, children))
        np.testing.assert_allclose(p_out, p_in, rtol=0, atol=1e-6)
        np.testing.assert_allclose(charge[:, children].sum(1), charge[:, parents].sum(1), atol=1e-12)


def test_colour_lines_begin_and_end_once(made):
    """An incoming colour counts as an outgoing anticolour; of each label one of either must be left."""
    _, made_events = made
    final = made_events.status == 1
    incoming = made_events.status == -1
    sources = np.concatenate([made_events.colour[:, final], made_events.anticolour[:, incoming]], 1)
    sinks = np.concatenate([made_events.anticolour[:, final], made_events.colour[:, incoming]], 1)
    np.testing.assert_array_equal(np.sort(sources, 1), np.sort(sinks, 1))
    for label in range(501, 507):
        assert ((sources == label).sum(1) <= 1).all()
    triplet = np.abs(made_events.pdg_id) <= 6
    assert ((made_events.colour != 0) == ((triplet & (made_events.pdg_id > 0)) | (made_events.pdg_id == 21))).all()
    assert ((made_events.anticolour != 0) == ((triplet & (made_events.pdg_id < 0)) | (made_events.pdg_id == 21))).all()


def test_flavours_are_shared_out(made):
    process, made_events = made
    assert 0.6 < (made_events.pdg_id[:, 0] == 21).mean() < 0.95
    assert (
        made_events.pdg_id[:, 0] == np.where(made_events.pdg_id[:, 0] == 21, 1, -1) * made_events.pdg_id[:, 1]
    ).all()
    charged = np.abs(made_events.pdg_id[:, [5, 10]])
    n_leptons = np.isin(charged, (11, 13)).sum(1)
    assert (n_leptons == (2 if "dilepton" in process else 1)).all()
    muons = (charged == 13).sum() / n_leptons.sum()
    assert_agrees(muons, 0.5, 0.5 / n_leptons.sum() ** 0.5)


def test_a_shower_takes_them_over(tmp_path):
    path, out = tmp_path / "x.lhe.gz", tmp_path / "x.root"
    assert cli.main(["partons", "ttbar_dilepton", "-n", "400", "--seed", "2", "-o", str(path)]) == 0
    events.simulate("ttbar_dilepton", 10, out, seed=1, lhe=path, underlying_event=False)
    generated = events.load_generated(out)
    assert len(generated) == 400
    assert events.metadata(out)["n_failed"] == 0
    assert events.metadata(out)["cross_section"]["value"] == pytest.approx(36, rel=0.05)
    again = tmp_path / "y.lhe.gz"
    parton_level.generate("ttbar_dilepton", 400, again, seed=2)
    assert decompress(again.read_bytes()) == decompress(path.read_bytes())


def test_opening_of_the_leptons_follows_theory():
    """D of 60,000 events, and of the formulas for on-shell tops weighted with the same production."""
    integrand = parton_level.hadronic_process("ttbar_dilepton")
    generator = torch.Generator().manual_seed(6)
    grid = VegasGrid(integrand.dims).adapt(integrand, generator, points=20_000, iterations=5)
    collision = integrand.collisions(unweight(integrand, grid, 60_000, generator).points)
    top, antitop = (collision.momenta[:, leg].sum(1) for leg in (slice(2, 5), slice(5, 8)))
    cosine = opening_cosine(top, antitop, collision.momenta[:, 2], collision.momenta[:, 5])
    d, error = -3 * float(cosine.mean()), 3 * float(cosine.std()) / len(cosine) ** 0.5
    at_rest = from_lab(torch.stack([top, antitop], 1), collision.x)
    size = at_rest[:, 0, 1:].norm(dim=1)
    beta = size / at_rest[..., 0].mean(1)
    correlation = leading_order_correlation(beta, at_rest[:, 0, 3] / size).mean(2)
    share = collision.cross_section / collision.cross_section.sum(1, keepdim=True)
    theory = (share * correlation).sum(1)
    assert 3 * error < 0.025
    assert_agrees(d, theory.mean(), error)
    assert float(theory.mean()) == pytest.approx(-0.21, abs=0.01)


def test_pythias_own_leptons_know_nothing_of_each_other():
    records = hard_processes("ttbar_dilepton", 4000, seed=3)
    cosine = parton_level.lepton_cosine(records)
    assert_mean(cosine)
    with pytest.raises(InputError, match=r"event 0 has 0 particles of the kinds \(6,\): one is needed"):
        parton_level.lepton_cosine(records[records.pdgId != 6])


def test_samplers_are_kept_and_known(tmp_path):
    path = tmp_path / "sampler.safetensors"
    flow = parton_level.train_sampler("ttbar_dilepton", path, evaluations=3000, layers=1, hidden=8, bins=4)
    again = parton_level.load_sampler(path, "ttbar_dilepton")
    points = torch.rand(10, 16, dtype=torch.float64)
    torch.testing.assert_close(again.log_prob(points), flow.log_prob(points))
    with pytest.raises(InputError, match="process is ttbar_dilepton there, tth_semileptonic here"):
        parton_level.load_sampler(path, "tth_semileptonic")


def test_bad_input(tmp_path, capsys):
    with pytest.raises(InputError, match="unknown process 'z_jets': choose one of ttbar_dilepton"):
        parton_level.generate("z_jets", 10, tmp_path / "x.lhe")
    assert cli.main(["partons", "ttbar_dilepton", "-n", "5", "-o", str(tmp_path / "no" / "x.lhe")]) == 2
    assert "no/x.lhe: cannot be written" in capsys.readouterr().err
    for options, message in (
        (["--seed", "-1"], "seed = -1: a whole number"),
        (["--seed", "99999999999999999999"], "seed = 99999999999999999999"),
        (["--alpha", "nan"], "alpha = nan, c_tg = 0: finite numbers are needed"),
        (["--alpha", "0.5"], "alpha = 0.5: tt_dilep has no Higgs boson"),
        (["--c-tg", "inf"], "c_tg = inf"),
        (["-o", ""], "cannot be written"),
        (["-o", "/etc/passwd/x.lhe"], "/etc/passwd/x.lhe: cannot be written"),
    ):
        given = ["partons", "ttbar_dilepton", "-n", "5", "-o", str(tmp_path / "x.lhe"), *options]
        assert cli.main(given) == 2
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_leading_order_momenta_are_those_of_unweighted_events():
    first, again = (
        parton_level.leading_order("ttbar_dilepton", 300, torch.Generator().manual_seed(4), at_once=200)
        for _ in range(2)
    )
    assert first.shape == (300, 6, 4)
    torch.testing.assert_close(first, again)
    assert first.sum(1)[:, 1:3].abs().max() < 1e-6
    top = kinematics.mass(first[:, :3].sum(1))
    assert abs(float(top.median()) - constants.M_TOP) < 0.5
