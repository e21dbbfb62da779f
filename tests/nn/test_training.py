"""Training finds a known density, goes on after an interruption, and refuses what it cannot use."""

import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from chance import assert_agrees
from rewind import progress
from rewind.errors import InputError
from rewind.nn import checkpoints, trainer, training
from rewind.nn.flows import ConditionalFlow, spline_flow
from rewind.nn.training import Examples, Optimization, SimulatedBatches, fit

SLOPE, WIDTH = 0.7, 0.5


def simulate(n, generator, width=WIDTH):
    """Draw targets from N(slope · event, width²): the entropy is known."""
    event = torch.randn(n, 1, generator=generator)
    return SLOPE * event + width * torch.randn(n, 1, generator=generator), event


def data(n, seed, width=WIDTH):
    return simulate(n, torch.Generator().manual_seed(seed), width)


def untrained():
    torch.manual_seed(0)
    return ConditionalFlow(spline_flow(1, 1, layers=1, bins=4, hidden=16, blocks=1), 1, 1).fit_scales(*data(500, 0))


def batches(n_batches=10, seed=1, width=WIDTH):
    return SimulatedBatches(partial(simulate, width=width), batch_size=256, n_batches=n_batches, seed=seed)


short = partial(fit, epochs=4, batch_size=256, optimization=Optimization(1e-2), seed=1, device="cpu")


def weights(model):
    return torch.cat([values.flatten() for values in model.parameters()])


@pytest.mark.parametrize("train", [batches(20), data(5000, 1)], ids=["simulated", "stored"])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_reaches_the_entropy(train, ema_decay):
    model = untrained()
    validation = data(4000, 2)
    record = short(model, train, validation, epochs=6, ema_decay=ema_decay)
    entropy = 0.5 * math.log(2 * math.pi * math.e * WIDTH**2)
    assert_agrees(record["best_validation_loss"], entropy, (0.5 / 4000) ** 0.5)
    assert model.loss(validation).item() == pytest.approx(record["best_validation_loss"], abs=1e-5)
    assert min(epoch["validation_loss"] for epoch in record["losses"]) == record["best_validation_loss"]
    assert not model.training


@pytest.mark.parametrize("train", [batches(), data(2560, 1)], ids=["simulated", "stored"])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_interrupted_training_goes_on_as_if_it_was_not(train, ema_decay, tmp_path):
    whole = untrained()
    short(whole, train, data(500, 2), ema_decay=ema_decay)

    broken = untrained()
    loss, n_calls = broken.loss, 0

    def failing(batch, weight):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 26:
            raise InterruptedError
        return loss(batch, weight)

    broken.loss = failing
    with pytest.raises(InterruptedError):
        short(broken, train, data(500, 2), ema_decay=ema_decay, run_dir=tmp_path)
    resumed = untrained()
    record = short(resumed, train, data(500, 2), ema_decay=ema_decay, run_dir=tmp_path)
    assert record["epochs"] == 4
    assert torch.equal(weights(resumed), weights(whole))
    again = untrained()
    assert short(again, train, data(500, 2), ema_decay=ema_decay, run_dir=tmp_path)["losses"] == record["losses"]
    assert torch.equal(weights(again), weights(whole))


def test_seed_decides(tmp_path):
    first, second, other = untrained(), untrained(), untrained()
    short(first, batches(), data(500, 2), epochs=1)
    short(second, batches(), data(500, 2), epochs=1)
    short(other, batches(seed=2), data(500, 2), epochs=1)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_epochs_draw_different_events():
    simulated = batches(2)
    epochs = []
    for simulated.epoch in (0, 1, 0):
        epochs.append(torch.cat([target for target, _ in simulated]))
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[0], epochs[2])


def test_stored_events_come_all_and_in_another_order_each_epoch():
    class Diary(training.Trainable):
        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []

        def loss(self, batch, weight=None):
            if self.training:
                self.seen.append(batch[0][:, 0].long().tolist())
            return (self.weight * batch[0]).square().mean()

    diary, numbers = Diary(), torch.arange(50.0)[:, None]
    fit(diary, (numbers,), (numbers,), epochs=2, batch_size=8, seed=3)
    epochs = [[n for batch in diary.seen[k : k + 7] for n in batch] for k in (0, 7)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != list(range(50)) != epochs[0]


def test_stops_early_and_keeps_the_best():
    model = untrained()
    few = data(20, 1)
    record = short(model, few, data(500, 2), epochs=60, patience=3)
    losses = [epoch["validation_loss"] for epoch in record["losses"]]
    assert len(losses) < 60
    assert losses.index(min(losses)) == len(losses) - 4
    assert model.loss(data(500, 2)).item() == pytest.approx(min(losses), abs=1e-5)


def test_schedule_warms_up_then_falls_to_zero():
    plan = Optimization(warmup=0.1)
    factors = [plan.factor(step, 100) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0)


def test_progress_is_shown_to_those_who_watch(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert not progress.visible()
    monkeypatch.setenv("JPY_SESSION_NAME", "02_robot_arm.ipynb")
    assert progress.visible()
    monkeypatch.setenv("JPY_SESSION_NAME", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert progress.visible()


@pytest.mark.parametrize(("has_cuda", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_or_the_cpu(monkeypatch, has_cuda, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert trainer._accelerator("auto") == device
    assert trainer._accelerator("mps") == "mps"


def test_a_device_is_named_by_its_type():
    def named(kind):
        return trainer._device_name(SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(kind))))

    assert named("cpu").startswith("CPU, ")
    assert named("mps") == "MPS"


def test_quiet_where_nobody_watches(capfd):
    short(untrained(), batches(2), data(100, 2), epochs=1)
    out, err = capfd.readouterr()
    assert out + err == ""


@pytest.mark.slow
def test_ctrl_c_reaches_the_caller_and_leaves_a_state(tmp_path):
    script = (
        "import runpy, sys; from types import SimpleNamespace\n"
        "t = SimpleNamespace(**runpy.run_path(sys.argv[1]))\n"
        "try: t.short(t.untrained(), t.batches(), t.data(100, 2), epochs=100_000, run_dir=sys.argv[2])\n"
        "except KeyboardInterrupt: sys.exit(7)"
    )
    command = [sys.executable, "-c", script, __file__, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # pytest's, with the tests' own modules
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env) as process:
        while not (tmp_path / "last.ckpt").exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 7
    assert torch.load(tmp_path / "last.ckpt", weights_only=False)["epoch"] >= 0


def test_another_training_in_the_folder_is_refused(tmp_path):
    short(untrained(), batches(2), data(100, 2), epochs=1, run_dir=tmp_path)
    with pytest.raises(InputError, match="another epochs"):
        short(untrained(), batches(2), data(100, 2), epochs=2, run_dir=tmp_path)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"train": data(512, 1, width=0.1)}, "training data"),
        ({"validation": data(100, 2, width=0.1)}, "validation data"),
        ({"batch_size": 250}, "steps, batch_size"),
        ({"clip": 1.0}, "clip"),
        ({"patience": 1}, "patience"),
        ({"ema_decay": 0.9}, "ema_decay"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_problem_in_the_folder_is_refused(changed, named, tmp_path):
    usual = {"train": data(512, 1), "validation": data(100, 2), "epochs": 1, "run_dir": tmp_path}
    short(untrained(), **usual)
    with pytest.raises(InputError, match=f"a training with another {named};"):
        short(untrained(), **usual | changed)


@pytest.mark.parametrize(
    ("changed", "named"), [({"width": 0.1}, "training data"), ({"seed": 2}, "simulator's seed, training data")]
)
def test_another_simulator_in_the_folder_is_refused(changed, named, tmp_path):
    simulated = batches(2)
    short(untrained(), simulated, data(100, 2), epochs=2, run_dir=tmp_path)
    short(untrained(), simulated, data(100, 2), epochs=2, run_dir=tmp_path)
    with pytest.raises(InputError, match=f"a training with another {named};"):
        short(untrained(), batches(2, **changed), data(100, 2), epochs=2, run_dir=tmp_path)


def test_a_loss_that_ceases_to_be_finite_is_reported():
    model = untrained()
    loss, calls = model.loss, count()
    model.loss = lambda batch, _: loss(batch) * (math.nan if next(calls) >= 6 else 1.0)  # three in each epoch
    with pytest.raises(InputError, match="diverged in epoch 3: the loss is not finite"):
        short(model, batches(2), data(100, 2))


def test_damaged_state_is_reported(tmp_path):
    short(untrained(), batches(2), data(100, 2), epochs=1, run_dir=tmp_path)
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"last\.ckpt: damaged"):
        short(untrained(), batches(2), data(100, 2), epochs=1, run_dir=tmp_path)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(InputError, match=r"training\.json: damaged"):
        short(untrained(), batches(2), data(100, 2), epochs=1, run_dir=tmp_path)


def whole(known, validation=None):
    """Train with all examples in each batch and return the weights."""
    model = untrained()
    record = short(model, known, validation or data(500, 2), batch_size=10_000)
    return weights(model), record["best_validation_loss"]


def test_equal_weights_change_nothing():
    plain, loss = whole(data(300, 1))
    weighted, weighted_loss = whole(Examples(data(300, 1), torch.full((300,), 2.5)))
    assert torch.equal(plain, weighted)
    assert loss == weighted_loss


def test_a_weight_of_two_is_the_event_twice():
    known, weight = data(300, 1), torch.cat([torch.full((100,), 2.0), torch.ones(200)])
    repeated = tuple(torch.cat([values[:100], values]) for values in known)
    weighted, loss = whole(Examples(known, weight), Examples(known, weight))
    twice, loss_twice = whole(repeated, repeated)
    torch.testing.assert_close(weighted, twice, atol=1e-3, rtol=0)
    assert loss == pytest.approx(loss_twice, abs=1e-4)


def test_events_of_opposite_weights_cancel():
    known, others = data(300, 1), data(200, 3, width=2.0)
    joint = tuple(torch.cat([values, more, more]) for values, more in zip(known, others, strict=True))
    signs = torch.cat([torch.ones(300), torch.ones(200), -torch.ones(200)])
    weighted, _ = whole(Examples(joint, signs))
    torch.testing.assert_close(weighted, whole(known)[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "weight",
    [torch.zeros(100), -torch.ones(100), torch.full((100,), math.nan), torch.ones(100, 1)],
    ids=["zero", "negative", "not a number", "another shape"],
)
def test_weights_without_a_positive_sum_are_refused(weight):
    with pytest.raises(InputError, match="finite ones with a positive sum, one an event, are needed"):
        short(untrained(), Examples(data(100, 1), weight), data(100, 2))


def test_scales_that_were_never_fitted_are_refused():
    model = ConditionalFlow(spline_flow(1, 1, layers=1, bins=4, hidden=16), 1, 1)
    with pytest.raises(InputError, match=r"ConditionalFlow: its scales were never fitted \(target_scale, encoder\)"):
        short(model, data(100, 1), data(100, 2))
    short(model.fit_scales(*data(100, 1)), data(100, 1), data(100, 2), epochs=1)
    again = ConditionalFlow(spline_flow(1, 1, layers=1, bins=4, hidden=16), 1, 1)
    again.load_state_dict(model.state_dict())
    short(again, data(100, 1), data(100, 2), epochs=1)


def flow(hidden, *, layers=1):
    return ConditionalFlow(spline_flow(1, 1, layers=layers, bins=4, hidden=hidden, blocks=1), 1, 1)


def test_recipe_is_build_scale_fit_and_save(tmp_path):
    parts = data(400, 1), data(200, 2)
    plan = {"epochs": 2, "batch_size": 100, "seed": 3, "device": "cpu"}
    model, record = training.train(
        flow, {"hidden": 8}, *parts, tmp_path / "a.safetensors", examples=lambda _, given: Examples(given), **plan
    )
    torch.manual_seed(3)
    by_hand = flow(8).fit_scales(*parts[0])
    fit(by_hand, *parts, optimization=Optimization(3e-3, 1e-4), **plan)
    assert torch.equal(weights(model), weights(by_hand))
    assert record["n_training_events"] == 400
    about = checkpoints.describe(tmp_path / "a.safetensors")
    assert about["configuration"] == {"hidden": 8, "layers": 1}
    assert about["data"] == checkpoints.fingerprint(*parts[0])
    loaded = checkpoints.load(tmp_path / "a.safetensors", flow)
    assert torch.equal(weights(loaded), weights(model))


def test_recipe_keeps_what_is_given(tmp_path):
    """Weights from a checkpoint are prepared, their scales with them: those of other events are not fitted."""
    begun = untrained()
    model, _ = training.train(
        untrained,
        {},
        data(100, 1, width=3.0),
        data(100, 2),
        examples=lambda _, given: Examples(given),
        prepare=lambda one: one.load_state_dict(begun.state_dict()),
        epochs=1,
        device="cpu",
    )
    assert torch.equal(model.target_scale.scale, begun.target_scale.scale)


def test_bad_input():
    target, event = data(100, 1)
    with pytest.raises(InputError, match="lengths"):
        short(untrained(), (target, event[:-1]), data(100, 2))
    with pytest.raises(InputError, match="lengths"):
        short(untrained(), (target[:0], event[:0]), data(100, 2))
    with pytest.raises(InputError, match="epochs = 0"):
        short(untrained(), batches(), data(100, 2), epochs=0)
    with pytest.raises(InputError, match="not finite"):
        short(untrained(), (target * math.nan, event), (target * math.nan, event))


def test_lightning_is_imported_only_to_train():
    code = "import sys, rewind.neutrino, rewind.integrate, rewind.nn.flows; print('lightning' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
