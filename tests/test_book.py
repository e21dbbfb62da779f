"""The runner and the command: what is run, what is refused, and what is left behind by a failure."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

import rewind
from rewind import cli, paths, runner
from rewind.book import Book
from rewind.errors import InputError
from rewind.runner import run

TITLE, PARAMETERS = "# A small chapter", "N = 2\nDATA = ''"


def notebook(*code):
    cells = [nbformat.v4.new_markdown_cell(TITLE), nbformat.v4.new_code_cell(PARAMETERS)]
    cells[1].metadata["tags"] = ["parameters"]
    cells += [nbformat.v4.new_code_cell(source) for source in code]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A book of two small chapters."""
    for folder in ("notebooks", "lib", "profiles", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_toc.yml").touch()
    (tmp_path / "lib" / "module.py").write_text("x = 1")
    (tmp_path / "profiles" / "full.yml").write_text("01_first: {N: 20}\n")
    nbformat.write(notebook("print(N ** 2)", "print(repr(DATA))"), tmp_path / "notebooks" / "01_first.ipynb")
    nbformat.write(notebook("x = 1", "1 / (N - 2)"), tmp_path / "notebooks" / "02_second.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.text for cell in cells if cell.cell_type == "code" for o in cell.outputs if "text" in o)


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


def test_chapters_have_titles_and_parameters(root):
    first, second = Book(root).chapters
    assert (first.name, first.title) == ("01_first", "A small chapter")
    assert first.parameters == {"N": "2", "DATA": "''"}
    assert Book(root).find(["2"]) == Book(root).find(["02_second"]) == Book(root).find(["2", "02"]) == [second]


@pytest.mark.slow
def test_runs_what_changed_and_nothing_else(root):
    book, said = Book(root), []

    def ran(**options):
        said.clear()
        run(book, ["1"], report=said.append, **options)
        return any("done" in line for line in said)

    assert ran()
    executed = root / "_run" / "quick" / "01_first.ipynb"
    assert printed(executed) == "4\n''\n"
    assert not ran()
    assert said == ["01_first: unchanged, not run again"]
    (root / "lib" / "module.py").write_text("x = 2")
    assert ran()
    executed.unlink()
    assert ran()
    executed.with_suffix(".json").write_text("{")
    assert ran()
    assert ran(parameters={"N": 3})
    assert printed(executed) == "9\n''\n"
    assert ran(force=True, parameters={"N": 3})
    assert ran(profile="full")
    assert printed(root / "_run" / "full" / "01_first.ipynb") == "400\n''\n"
    assert book.last_run(book.chapters[0], "full")["parameters"] == {"N": 20}


@pytest.mark.slow
def test_kept_outputs_are_those_of_the_last_run(root):
    path = root / "notebooks" / "01_first.ipynb"
    content = nbformat.read(path, as_version=4)
    content.cells[2].metadata["tags"] = ["keep_output"]
    nbformat.write(content, path)
    with pytest.raises(InputError, match="01_first was not run as it stands"):
        Book(root).keep_outputs(["1"])
    run(Book(root), ["1"], report=lambda _: None)
    run(Book(root), ["1"], parameters={"N": 3}, report=lambda _: None)
    with pytest.raises(InputError, match="01_first was last run with -p"):
        Book(root).keep_outputs(["1"])
    run(Book(root), ["1"], report=lambda _: None)
    Book(root).keep_outputs(["1"])
    assert printed(path) == "4\n"
    ran = nbformat.read(root / "_run" / "quick" / "01_first.ipynb", as_version=4)
    ran.cells[2].metadata["tags"] = ["keep_output"]
    nbformat.write(ran, path)
    Book(root).strip()
    assert printed(path) == "4\n"
    assert [cell.execution_count for cell in nbformat.read(path, as_version=4).cells[1:]] == [None, 1, None]


@pytest.mark.slow
def test_nbval_judges_the_last_run_and_executes_what_changed_since(root):
    count, shared = root / "count", Path(__file__).parents[1] / "notebooks" / "conftest.py"
    shutil.copy(shared, root / "notebooks")
    (root / "notebooks" / "02_second.ipynb").unlink()
    content = notebook(f"with open({str(count)!r}, 'a') as f: f.write('x')", "# NBVAL_CHECK_OUTPUT\nprint(N ** 2)")
    content.cells[3].update(outputs=[nbformat.v4.new_output("stream", text="4\n")], execution_count=1)
    nbformat.write(content, root / "notebooks" / "01_first.ipynb")

    def judged():
        command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "-p", "no:cacheprovider", "notebooks"]
        return subprocess.run(command, capture_output=True, text=True, cwd=root).stdout

    run(Book(root), ["1"], report=lambda _: None)
    assert "3 passed" in judged()
    assert count.read_text() == "x", "executed once"
    content.cells[1].source = "N = 3"
    nbformat.write(content, root / "notebooks" / "01_first.ipynb")
    assert "Cell outputs differ" in judged()
    assert count.read_text() == "xx", "executed by nbval"
    run(Book(root), ["1"], report=lambda _: None)
    said = judged()
    assert "Cell outputs differ" in said
    assert "1 failed, 2 passed" in said
    assert count.read_text() == "xxx", "executed by the runner alone"


@pytest.mark.slow
def test_a_path_may_be_relative_to_where_the_command_was_called(root):
    (root / "mine.root").touch()
    run(Book(root), ["1"], parameters={"DATA": "mine.root"}, report=lambda _: None)
    assert str(root / "mine.root") in printed(root / "_run" / "quick" / "01_first.ipynb")


@pytest.mark.slow
def test_a_failing_chapter_names_its_cell_and_spares_the_others(root):
    with pytest.raises(InputError, match=r"02_second failed in code cell 3 \(ZeroDivisionError: division by zero\)"):
        run(Book(root), report=lambda _: None)
    folder = root / "_run" / "quick"
    assert {path.name for path in folder.iterdir()} == {"01_first.ipynb", "01_first.json", "02_second.failed.ipynb"}
    run(Book(root), ["2"], parameters={"N": 3}, report=lambda _: None)
    assert {path.name for path in folder.glob("02*")} == {"02_second.ipynb", "02_second.json"}


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "n_threads"), [("1", 1), ("", 4)])
def test_kernels_wait_without_spinning_and_take_the_threads_that_are_asked_for(root, monkeypatch, asked, n_threads):
    for name in rewind.PASSIVE_WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    waits = "os.environ['OMP_WAIT_POLICY'], os.environ['KMP_BLOCKTIME']"
    source = f"import torch, os; print(os.environ['OMP_NUM_THREADS'], {waits}, torch.get_num_threads())"
    nbformat.write(notebook(source), root / "notebooks" / "01_first.ipynb")
    run(Book(root), ["1"], report=lambda _: None)
    *told, taken = printed(root / "_run" / "quick" / "01_first.ipynb").split()
    assert told == [str(n_threads), "PASSIVE", "0"]
    assert int(taken) <= n_threads, "torch takes no more threads than there are cores"


@pytest.mark.parametrize(
    ("asked", "n_jobs", "shares"),
    [("", 1, (1, 4)), ("", 2, (2, 1)), ("", 9, (4, 1)), ("2", 9, (2, 2)), ("9", 3, (1, 9))],
)
def test_chapters_side_by_side_take_a_thread_each(monkeypatch, asked, n_jobs, shares):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert runner._shares(n_jobs) == shares


def test_these_tests_say_how_their_threads_wait():
    assert os.environ.keys() >= rewind.PASSIVE_WAITING.keys()


def test_what_the_user_says_of_waiting_threads_stays(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    code = "import rewind, os, torch; print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads())"
    environment = runner.environment(2, "quick")
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "ACTIVE 2\n"


@pytest.mark.slow
def test_chapters_show_no_progress_even_when_run_from_jupyterlab(root, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "Untitled.ipynb")
    content = notebook("from rewind import progress", "print(progress.visible())")
    nbformat.write(content, root / "notebooks" / "01_first.ipynb")
    run(Book(root), ["1"], report=lambda _: None)
    assert printed(root / "_run" / "quick" / "01_first.ipynb") == "False\n"


@pytest.mark.slow
def test_what_a_killed_run_left_is_removed(root):
    running = root / "_run" / "quick" / "01_first.running.ipynb"
    running.parent.mkdir(parents=True)
    running.touch()
    content = nbformat.read(root / "notebooks" / "01_first.ipynb", as_version=4)
    content.metadata.kernelspec.name = "absent"
    nbformat.write(content, root / "notebooks" / "01_first.ipynb")
    with pytest.raises(InputError, match="01_first"):
        run(Book(root), ["1"], report=lambda _: None)
    assert not running.exists()


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


@pytest.mark.slow
def test_a_kernel_that_dies_is_reported(root):
    nbformat.write(notebook("import os", "os._exit(3)"), root / "notebooks" / "02_second.ipynb")
    with pytest.raises(InputError, match=r"02_second failed in code cell 3 \(the kernel died\)"):
        run(Book(root), ["2"], report=lambda _: None)


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


def test_record_is_readable_json(root):
    path = root / "_run" / "quick" / "01_first.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"digest": "x", "seconds": 3.0}))
    assert Book(root).last_run(Book(root).chapters[0], "quick")["seconds"] == 3.0
    path.write_text('{"digest"')
    assert Book(root).last_run(Book(root).chapters[0], "quick") == {}
