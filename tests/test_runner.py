"""The runner: what is run and what is not, and what is left behind by a failure."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import rewind
from rewind import runner
from rewind.book import Book
from rewind.errors import InputError
from rewind.runner import run
from small_book import notebook, printed


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
def test_a_kernel_that_dies_is_reported(root):
    nbformat.write(notebook("import os", "os._exit(3)"), root / "notebooks" / "02_second.ipynb")
    with pytest.raises(InputError, match=r"02_second failed in code cell 3 \(the kernel died\)"):
        run(Book(root), ["2"], report=lambda _: None)


@pytest.mark.parametrize(
    ("names", "options", "threads", "message"),
    [
        (["9"], {}, "", "unknown chapter '9': choose one of 01_first, 02_second"),
        (["1", "03_third"], {}, "", "unknown chapter '03_third'"),
        (["1"], {"profile": "huge"}, "", "unknown profile 'huge': choose one of quick, full, train, paper"),
        (["1"], {"parameters": {"M": 3}}, "", "chapter 01_first has no parameter M: it has N, DATA"),
        (["1"], {"parameters": {"M": 3, "L": 1}}, "", "chapter 01_first has no parameter L, M: it has N, DATA"),
        (["1"], {}, "0", "OMP_NUM_THREADS=0: a whole number of threads is needed"),
        (["1"], {}, "two", "OMP_NUM_THREADS=two: a whole number"),
        (["1"], {}, "-1", "OMP_NUM_THREADS=-1: a whole number"),
    ],
)
def test_refusals_come_before_anything_runs(root, monkeypatch, names, options, threads, message):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with pytest.raises(InputError, match=re.escape(message)):
        run(Book(root), names, report=pytest.fail, **options)
    assert not (root / "_run").exists()
