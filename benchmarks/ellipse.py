"""The ellipse method on one core: speed, truth found, agreement with the quartic, closest approaches.

Events are tops with random boosts that decay isotropically, exactly on shell; in the realistic mix the b-jets are
smeared by 12 % and p_T^miss by 20 GeV in each component.
"""

import rewind  # noqa: F401  (before torch, whose threads then wait without spinning)

# isort: split
import argparse
import math
import time
from functools import partial

import torch

from rewind.neutrino.classical import ellipse, quartic
from rewind.physics.constants import M_B, M_TOP, M_W
from timing import Row, alternating, durations, ratio

NAMES = ("lepton_plus", "lepton_minus", "bottom", "antibottom")


def boosted(p, frame):
    """Return ``p`` ``(n, 4)``, given at rest in ``frame``, in the system where ``frame`` ``(n, 4)`` is given."""
    mass = (frame[:, 0] ** 2 - frame[:, 1:].square().sum(1)).sqrt()
    along = (p[:, 1:] * frame[:, 1:]).sum(1)
    energy = (p[:, 0] * frame[:, 0] + along) / mass
    return torch.cat(
        [energy[:, None], p[:, 1:] + frame[:, 1:] * ((p[:, 0] + energy) / (frame[:, 0] + mass))[:, None]], 1
    )


def isotropic(size, generator):
    """Return vectors of the given lengths ``(n,)`` in random directions."""
    direction = torch.randn(len(size), 3, generator=generator, dtype=torch.float64)
    return size[:, None] * torch.nn.functional.normalize(direction, dim=1)


def decay(parent, mass, first, second, generator):
    """Return the two daughters ``(n, 4)``, of masses ``(n,)``, of an isotropic decay."""
    product = (mass**2 - (first + second) ** 2) * (mass**2 - (first - second) ** 2)
    momentum = isotropic(product.sqrt() / (2 * mass), generator)
    energies = ((momentum.square().sum(1) + m**2).sqrt() for m in (first, second))
    rest = (torch.cat([e[:, None], sign * momentum], 1) for e, sign in zip(energies, (1, -1), strict=True))
    return tuple(boosted(p, parent) for p in rest)


def exact_events(n, seed, m_top=M_TOP, m_w=M_W, m_b=M_B, m_lepton=0.0):
    """Return visible momenta and ``met`` by name, and the neutrinos ``(n, 2, 3)``; masses a number or ``(n, 2)``."""
    generator = torch.Generator().manual_seed(seed)
    masses = [torch.as_tensor(m, dtype=torch.float64).expand(n, 2) for m in (m_top, m_w, m_b, m_lepton)]
    pair = torch.randn(n, 3, generator=generator, dtype=torch.float64) * torch.tensor([40.0, 40.0, 500.0])
    spread = 90 * torch.randn(n, generator=generator, dtype=torch.float64).abs() + 20
    relative = isotropic(spread, generator)
    leptons, bottoms, neutrinos = [], [], []
    for leg, (top_mass, w_mass, b_mass, lepton_mass) in enumerate(zip(*(m.unbind(1) for m in masses), strict=True)):
        momentum = pair / 2 + (1 - 2 * leg) * relative
        top = torch.cat([(momentum.square().sum(1) + top_mass**2).sqrt()[:, None], momentum], 1)
        w, b = decay(top, top_mass, w_mass, b_mass, generator)
        lepton, neutrino = decay(w, w_mass, lepton_mass, torch.zeros_like(w_mass), generator)
        leptons.append(lepton), bottoms.append(b), neutrinos.append(neutrino[:, 1:])
    neutrinos = torch.stack(neutrinos, 1)
    return dict(zip(NAMES, (*leptons, *bottoms), strict=True)) | {"met": neutrinos.sum(1)[:, :2]}, neutrinos


def smeared(event, seed, jets=0.12, met=20.0):
    """Return the events with b four-momenta scaled and ``met`` shifted at random."""
    generator = torch.Generator().manual_seed(seed)
    n = len(event["met"])
    noise = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    scale = (1 + jets * noise[:, :2, None]).clip(0.1)
    b, bbar = event["bottom"] * scale[:, 0], event["antibottom"] * scale[:, 1]
    return event | {"bottom": b, "antibottom": bbar, "met": event["met"] + met * noise[:, 2:]}


def nearest(solutions, truth):
    """Return the relative distance ``(n,)`` of the closest solution to the true pair ``(n, 2, 3)``."""
    pairs = torch.stack([solutions.neutrino, solutions.antineutrino], 2)
    error = (pairs - truth[:, None]).norm(dim=(2, 3)) / truth.norm(dim=(1, 2))[:, None]
    return error.nan_to_num(math.inf).amin(1)


def least_distance(event, n_angles=2000):
    """Return |ν_T + ν̄_T − met| ``(n,)``, the least on a dense grid of both angles, refined around the best."""
    legs = [
        ellipse.leg_ellipse(event[lepton], event[b])
        for lepton, b in (("lepton_plus", "bottom"), ("lepton_minus", "antibottom"))
    ]
    distances = []
    for i, met in enumerate(event["met"]):
        first, second = (ellipse.LegEllipse(leg.H[i : i + 1], leg.is_real[i : i + 1]) for leg in legs)
        centre, width = torch.zeros(2, dtype=torch.float64), math.pi
        while width > 1e-6:
            offsets = torch.linspace(-width, width, n_angles + 1, dtype=torch.float64)
            x, y = (leg.point(t + offsets)[0, :, :2] for leg, t in zip((first, second), centre, strict=True))
            distance = torch.cdist(x, met - y)
            best = torch.tensor(divmod(int(distance.argmin()), n_angles + 1))
            centre = centre + offsets[best]
            width *= 20 / n_angles
        distances.append(distance.min())
    return torch.stack(distances)


def share(good):
    """Say a share with its binomial error, from (k + 1)/(n + 2) so that it is never zero."""
    n, k = len(good), int(good.sum())
    smooth = (k + 1) / (n + 2)
    return f"{k / n:.5f} ± {(smooth * (1 - smooth) / n) ** 0.5:.5f} ({n - k} of {n} fail)"


def seconds(function, *arguments, repeat, **options):
    """Return the durations of several calls after a first one."""
    return torch.from_numpy(durations(partial(function, *arguments, **options), repeat))


def small() -> list[Row]:
    """Compare the ellipse with the quartic: time, counts of solutions, the truth of exact events."""
    exact, truth = exact_events(2_000, seed=1)
    mix = smeared(exact, seed=2)
    calls = {"ellipse": partial(ellipse.solve, **mix), "quartic": partial(quartic.solve, **mix)}
    spent = alternating(calls, 4, time.process_time)
    same = ellipse.solve(**mix).count == quartic.solve(**mix).count
    return [
        ratio("ellipse's time / the quartic's", spent["ellipse"], spent["quartic"]),
        Row("share with the quartic's count", float(same.double().mean())),
        Row("share with the truth to 1e-6", float((nearest(ellipse.solve(**exact), truth) < 1e-6).double().mean())),
    ]


def main():
    """Print all figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=20_000)
    options.add_argument("--repeat", type=int, default=5)
    options.add_argument("--brute-force", type=int, default=300, help="closest approaches to verify on a dense grid")
    options = options.parse_args()
    torch.set_num_threads(1)

    exact, truth = exact_events(options.events, seed=1)
    mix = smeared(exact, seed=2)
    for name, event in (("exact", exact), ("realistic mix", mix)):
        rates = options.events / seconds(ellipse.solve, repeat=options.repeat, **event)
        solved = ellipse.solve(**event)
        counts = torch.bincount(solved.count, minlength=5)[::2] / options.events
        print(f"{name}: {rates.mean():,.0f} ± {rates.std() / len(rates) ** 0.5:,.0f} events/s on one core")
        print("  0, 2, 4 solutions: " + ", ".join(f"{c:.3f}" for c in counts))
        print(f"  both ellipses real: {share(solved.has_ellipse.all(1))}")
        print(f"  count equals the quartic's: {share(solved.count == quartic.solve(**event).count)}")
    one = {key: value[:1] for key, value in mix.items()}
    print(f"a batch of one: {1e3 * seconds(ellipse.solve, repeat=50, **one).median():.2f} ms")
    print(f"truth found to 1e-6, exact events: {share(nearest(ellipse.solve(**exact), truth) < 1e-6)}")

    missed = (solved.has_ellipse.all(1) & ~solved.is_solved).nonzero()[: options.brute_force, 0]
    reference = least_distance({key: value[missed] for key, value in mix.items()})
    print(f"closest approach within 1 MeV of a dense grid's: {share(solved.distance[missed] < reference + 1e-3)}")


if __name__ == "__main__":
    main()
