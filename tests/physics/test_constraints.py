import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewind import kinematics
from rewind.errors import InputError
from rewind.physics.constants import M_W
from rewind.physics.constraints import checked_masses, w_mass_roots

finite = st.floats(-300, 300).filter(lambda x: abs(x) > 1e-3)


def momenta(n, seed, mass=0.0, width=60.0):
    generator = torch.Generator().manual_seed(seed)
    p = width * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return torch.cat([(p.square().sum(1, keepdim=True) + mass**2).sqrt(), p], 1)


def neutrinos(met, pz):
    p = torch.cat([met, pz[:, None]], 1)
    return torch.cat([p.norm(dim=1, keepdim=True), p], 1)


@pytest.mark.parametrize("mass", [0.0, 0.000511, 1.777, 20.0])
def test_true_pz_is_a_root(mass):
    lepton, neutrino = momenta(5000, 1, mass), momenta(5000, 2)
    roots = w_mass_roots(lepton, neutrino[:, 1:3], kinematics.mass(lepton + neutrino))
    assert (roots.is_real | (roots.discriminant > -1e-5)).all()
    error = (roots.pz - neutrino[:, 3:]).abs().amin(1)
    assert (error < 1e-6 * (1 + neutrino[:, 0])).float().mean() > 0.999


@pytest.mark.parametrize("mass", [0.0, 1.777])
def test_roots_put_the_w_on_its_mass_shell(mass):
    lepton, met = momenta(5000, 3, mass), momenta(5000, 4, width=40.0)[:, 1:3]
    pz, _, is_real = w_mass_roots(lepton, met)
    assert 0.2 < is_real.float().mean() < 0.8
    for root in pz.unbind(1):
        m2 = kinematics.mass_squared(lepton + neutrinos(met, root))[is_real]
        scale = (lepton[:, 0] + neutrinos(met, root)[:, 0])[is_real] ** 2
        assert ((m2 - M_W**2).abs() < 1e-12 * scale + 1e-6).all()
    assert (pz[:, 0].abs() <= pz[:, 1].abs()).all()


def test_real_up_to_the_transverse_mass():
    lepton, met = momenta(5000, 5), momenta(5000, 6)[:, 1:3]
    m_t2 = 2 * (kinematics.pt(lepton) * met.norm(dim=1) - (lepton[:, 1:3] * met).sum(1))
    pz, discriminant, is_real = w_mass_roots(lepton, met)
    assert torch.equal(is_real, m_t2 <= M_W**2)
    assert torch.equal(is_real, discriminant >= 0)
    assert (pz[~is_real, 0] == pz[~is_real, 1]).all()


def test_without_a_real_root_the_real_part_is_continuous():
    """Just above the transverse mass, the real part is next to the double root just below."""
    lepton, met = momenta(100, 7), momenta(100, 8)[:, 1:3]
    m_t2 = 2 * (kinematics.pt(lepton) * met.norm(dim=1) - (lepton[:, 1:3] * met).sum(1))
    below, above = (w_mass_roots(lepton, met, m_t2.sqrt() * (1 + shift)) for shift in (1e-9, -1e-9))
    assert below.is_real.all()
    assert not above.is_real.any()
    torch.testing.assert_close(below.pz.mean(1), above.pz[:, 0], rtol=1e-6, atol=1e-6)


@given(finite, finite, finite, finite, finite, st.floats(-2, 2))
def test_boosts_along_the_beam_carry_the_roots_along(x, y, z, met_x, met_y, rapidity):
    lepton = torch.tensor([[math.hypot(x, y, z), x, y, z]], dtype=torch.float64)
    met = torch.tensor([[met_x, met_y]], dtype=torch.float64)

    def boosted(p):
        energy, along = p[:, 0].clone(), p[:, 3].clone()
        moved = p.clone()
        moved[:, 0] = math.cosh(rapidity) * energy + math.sinh(rapidity) * along
        moved[:, 3] = math.sinh(rapidity) * energy + math.cosh(rapidity) * along
        return moved

    before, after = w_mass_roots(lepton, met), w_mass_roots(boosted(lepton), met)
    scale = float(before.pz.abs().max()) + 1e3
    if before.discriminant.abs() < 1e-6 * scale**4:
        return
    assert torch.equal(before.is_real, after.is_real)
    if before.is_real:
        moved = torch.stack([boosted(neutrinos(met, root))[:, 3] for root in before.pz.unbind(1)], 1)
        torch.testing.assert_close(moved.sort().values, after.pz.sort().values, rtol=1e-7, atol=1e-7 * scale)


def test_central_lepton_has_mirrored_roots():
    lepton = torch.tensor([[40.0, 0.0, 40.0, 0.0]], dtype=torch.float64)
    pz, _, is_real = w_mass_roots(lepton, torch.tensor([[30.0, 0.0]]), 80.0)
    assert is_real
    torch.testing.assert_close(pz.sort().values, torch.tensor([[-1.0, 1.0]], dtype=torch.float64) * 5500**0.5)


def test_no_cancellation_at_high_energy():
    """The small root of a forward lepton keeps its digits."""
    lepton, neutrino = momenta(1000, 9), momenta(1000, 10, width=30.0)
    lepton[:, 3] = 5000.0
    lepton[:, 0] = lepton[:, 1:].norm(dim=1)
    pz, _, is_real = w_mass_roots(lepton, neutrino[:, 1:3], 200.0)
    nu = neutrinos(neutrino[:, 1:3], pz[:, 0])
    angle2 = 2 * lepton[:, 0] * nu[:, 0] - 2 * (lepton[:, 1:] * nu[:, 1:]).sum(1)
    assert ((angle2 - 200.0**2).abs()[is_real] < 1e-12 * (lepton[:, 0] * nu[:, 0])[is_real] + 1e-6).all()


def test_shapes():
    empty = w_mass_roots(torch.zeros(0, 4), torch.zeros(0, 2))
    assert (empty.pz.shape, empty.discriminant.shape, empty.is_real.shape) == ((0, 2), (0,), (0,))
    assert w_mass_roots(momenta(1, 11).float(), torch.ones(1, 2)).pz.dtype == torch.float64
    assert checked_masses("m_top", 172.5, 3, legs=2).shape == (3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lepton": momenta(3, 1)[:, :3]}, r"lepton: shape \(3, 3\); \(events, 4\)"),
        ({"lepton": torch.tensor(1.0)}, r"lepton: shape \(\)"),
        ({"met": torch.zeros(2, 2)}, r"met: shape \(2, 2\); \(3, 2\)"),
        ({"lepton": momenta(3, 1) * torch.tensor([[1.0], [1.0], [math.nan]])}, "lepton: event 2 is not finite"),
        ({"lepton": momenta(3, 1) * torch.tensor([[1.0], [0.0], [0.0]])}, "lepton: event 1 has no momentum"),
        ({"lepton": momenta(3, 1) * torch.tensor([[0.5, 1, 1, 1]])}, r"lepton: event 0 has E < \|p\|"),
        ({"lepton": torch.tensor([[5.0, 0.0, 0.0, 5.0]]).repeat(3, 1)}, "lepton: event 0 is massless and along"),
        ({"met": torch.full((3, 2), math.inf)}, "met: event 0 is not finite"),
        ({"m_w": -80.0}, "m_w = -80: a finite, positive mass"),
        ({"m_w": torch.tensor([80.0, 0.0, 80.0])}, "m_w: event 1 is not a finite, positive mass"),
        ({"m_w": torch.ones(2)}, r"m_w: shape \(2,\); one of \(\), \(3,\)"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        w_mass_roots(**({"lepton": momenta(3, 1), "met": torch.zeros(3, 2)} | change))
