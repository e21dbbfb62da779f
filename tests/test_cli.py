"""The command: what it passes on, what is refused in one line, and what Ctrl-C leaves behind."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from rewind import cli, paths, runner
from small_book import notebook


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def is_alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the command", "to all, as a terminal does"])
def test_ctrl_c_ends_chapters_and_starts_no_other(root, send):
    sleeps = ("import os, pathlib", "pathlib.Path(DATA).write_text(str(os.getpid()))", "import time; time.sleep(300)")
    for number in (2, 3):
        nbformat.write(notebook(*sleeps), root / "notebooks" / f"0{number}_sleeps.ipynb")
    (root / "notebooks" / "02_second.ipynb").unlink()
    pid = root / "pid"
    one_core = "import os, sys; os.sched_getaffinity = lambda _: {0}; from rewind import cli; sys.exit(cli.main())"
    command = [sys.executable, "-c", one_core, "run", "2", "3", "-p", f"DATA={pid}"]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=root
    )
    assert wait_for(lambda: pid.exists() and pid.read_text())
    send(run.pid, signal.SIGINT)
    said, error = run.communicate(timeout=60)
    assert run.returncode == 130
    assert said == "02_sleeps: running (quick)\n"
    assert error.startswith("rewind: interrupted")
    assert error.count("\n") == 1
    assert list((root / "_run" / "quick").iterdir()) == []
    assert wait_for(lambda: not is_alive(int(pid.read_text())))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "9"], "unknown chapter '9': choose one of 01_first, 02_second"),
        (["run", "--profile", "huge"], "unknown profile 'huge': choose one of quick, full, train, paper"),
        (["run", "1", "-p", "M=3"], "chapter 01_first has no parameter M: it has N, DATA"),
        (["run", "1", "-p", "N"], "-p N: expected NAME=VALUE"),
        (["run", "1", "-p", "N=[1"], "-p N=[1: the value is not YAML"),
        (["run", "1", "-p", "N=2026-13-45"], "-p N=2026-13-45: the value is not YAML"),
        (["run", "--profile", "full", "3"], "unknown chapter '3'"),
        (["build"], "chapter 01_first was not run with profile quick"),
        (["build", "--profile", "full"], "chapter 01_first was not run with profile full"),
        (["keep", "9"], "unknown chapter '9'"),
        (["strip", "9"], "unknown chapter '9'"),
        (["run", "1", "-p", "=3"], "-p =3: expected NAME=VALUE"),
        (["partons", "higgs", "-n", "5", "-o", "x.lhe"], "unknown process 'higgs'"),
        (["partons", "ttbar_dilepton", "-n", "0", "-o", "x.lhe"], "n = 0"),
        (["partons", "ttbar_dilepton", "-n", "5", "--seed", "-1", "-o", "x.lhe"], "seed = -1: a whole number from 0"),
        (["partons", "ttbar_dilepton", "-n", "5", "-o", "absent/x.lhe"], "absent/x.lhe: cannot be written"),
        (
            ["partons", "ttbar_dilepton", "-n", "5", "-o", "x.lhe", "--sampler", "absent"],
            "absent: no such checkpoint; train one",
        ),
        (["info", "absent.root"], "absent.root: no such file"),
        (["simulate", "higgs", "-n", "5", "-o", "x.root"], "unknown process 'higgs'"),
        (["simulate", "z_jets", "-n", "0", "-o", "x.root"], "n_events = 0"),
        (["simulate", "z_jets", "-n", "1", "-o", "x.root", "--set", "PartonLevel:MPI = maybe"], "takes on or off"),
        (["simulate", "z_jets", "-n", "1", "-o", "x.root", "--cut", "jet_pt"], "--cut jet_pt: expected NAME=VALUE"),
        (["simulate", "z_jets", "-n", "1", "-o", "x.root", "--cut", "jet_pt={"], "--cut jet_pt={: the value is not"),
    ],
)
def test_mistakes_get_one_line_and_status_2(root, capsys, arguments, message):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-2", 0.01),
        ("-.5", -0.5),
        ("true", True),
        ("", ""),
        ("'3'", "3"),
        ("a.root", "a.root"),
        ("[1]", [1]),
    ],
)
def test_values_are_numbers_where_they_look_like_it(root, monkeypatch, text, value):
    given = {}
    monkeypatch.setattr(runner, "run", lambda _book, _names, **options: given.update(options))
    assert cli.main(["run", "-p", f"N={text}"]) == 0
    assert given["parameters"] == {"N": value}
    assert type(given["parameters"]["N"]) is type(value)


def test_chapters_and_processes_are_listed(root, capsys):
    assert cli.main(["chapters"]) == 0
    assert "01_first: A small chapter" in capsys.readouterr().out
    assert cli.main(["processes"]) == 0
    assert "ttbar_dilepton" in capsys.readouterr().out


def test_simulate_and_info_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "z.root"
    arguments = ["simulate", "z_jets", "-n", "5", "--seed", "1", "-o", str(out), "--no-underlying-event"]
    arguments += ["--pt-hat-min", "80", "--m-top", "171", "--variant", "isr_up", "--cut", "jet_pt=30"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "pass the detector-level selection" in said
    assert cli.main(["info", str(out)]) == 0
    assert capsys.readouterr().out == said
    assert "jet_pt 30" in said


def test_outside_of_a_book(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "paths.py"))
    assert cli.main(["chapters"]) == 2
    assert "no book here" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_is_no_traceback_and_leaves_no_final_file(tmp_path):
    out = tmp_path / "x.root"
    command = [sys.executable, "-m", "rewind.cli", "simulate", "ttbar_dilepton", "-n", "100000", "-o", str(out)]
    run = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert wait_for(lambda: list(tmp_path.glob(".x.root.*.chunks")))
    time.sleep(1)
    os.killpg(run.pid, signal.SIGINT)
    _, error = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "interrupted; repeat the command" in error
    assert "Traceback" not in error
    assert not out.exists()
