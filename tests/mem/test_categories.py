"""Events of several topologies: none in two, all in order, integrals without bias."""

from types import SimpleNamespace

import torch

from rewind.mem import categories, event_integrals


def test_categories_share_no_event_and_keep_the_order(simulated):
    flows = {}
    for name in ("tth_semileptonic", "tth_lost"):
        integrand, outgoing = simulated[name][0], simulated[name][-1]
        flows[name] = SimpleNamespace(integrand=integrand)
    by_name = categories.measured(flows, outgoing, seed=5)
    both = torch.cat([category.place for category in by_name.values()])
    assert len(both.unique()) == len(both) > 50
    kept = categories.selected(by_name, len(outgoing))
    assert int(kept.sum()) == len(both)
    ordered = categories.in_order(by_name, {name: category.place for name, category in by_name.items()})
    torch.testing.assert_close(ordered, kept.nonzero()[:, 0])
    for name, category in by_name.items():
        row = event_integrals.under(category.rows, category.which[:, None])
        back = flows[name].integrand.points(flows[name].integrand.variables(category.partons, row), row)
        torch.testing.assert_close(back.partons, category.partons, rtol=1e-8, atol=1e-7)


class Seldom:
    """A hypothesis that is drawn with probability 0.05 and holds everything: the integral is 1."""

    dims = 1

    @property
    def integrand(self):
        return self

    def polynomial(self, u, row):
        return (row[:, :1] > 0).double()

    def sample_and_log_prob(self, rows, n, generator):
        which = (torch.rand(len(rows), n, generator=generator) < 0.05).long()
        points = torch.rand(len(rows), n, 1, generator=generator, dtype=torch.float64)
        return which, points, torch.where(which == 1, 0.05, 0.95).log().double()


def test_integrals_are_not_biased_where_draws_are_often_empty():
    """Of 20 draws 36 % miss it: to draw again where all weights are zero, and only there, gives 1.36."""
    rows = torch.tensor([[[0.0], [1.0]]]).double().expand(4_000, -1, -1)
    category = categories.Category(rows, rows, rows[:, 1, 0].long(), torch.arange(len(rows)).flip(0))
    integrals = categories.integrated({"one": Seldom()}, {"one": category}, 20, torch.Generator().manual_seed(30))
    value = integrals.value[:, 0]
    assert abs(float(value.mean()) - 1) < 5 * float(value.std()) / len(value) ** 0.5
    assert set(integrals.draws.tolist()) == {20.0, 200.0, 2000.0}
    assert (value[integrals.draws == 2000] > 0).all()


def test_integrals_stand_in_the_order_of_the_events():
    """Each event's integral is its own number, whatever number of draws its pilot asked for."""

    class Numbered(Seldom):
        def polynomial(self, u, row):
            return row[:, :1]

    numbers = torch.arange(1.0, 301.0).double()
    place = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    rows = numbers[:, None, None].expand(-1, 2, 1)
    parts = {
        name: categories.Category(rows[some], rows[some], some, place[some])
        for name, some in (("one", torch.arange(100)), ("two", torch.arange(100, 300)))
    }
    flows = dict.fromkeys(parts, Numbered())
    integrals = categories.integrated(flows, parts, 2_000, torch.Generator().manual_seed(2))
    expected = 2 * numbers[place.argsort()]  # the sum over both hypotheses
    assert ((integrals.value[:, 0] - expected).abs() < 6 * integrals.error).all()
