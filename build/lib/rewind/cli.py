"""The ``rewind`` command: simulate events, run chapters, render the book."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import yaml

import rewind
from rewind.errors import InputError

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rewind", description=rewind.__doc__)
    parser.add_argument("--version", action="version", version=f"rewind {rewind.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    simulate = commands.add_parser("simulate", help="simulate events from Pythia to the detector")
    simulate.add_argument("process", metavar="PROCESS", help="one of the processes that 'rewind processes' lists")
    simulate.add_argument(
        "-n",
        type=int,
        required=True,
        metavar="EVENTS",
        dest="n_events",
        help="events that pass the detector-level selection, at least",
    )
    simulate.add_argument("-o", required=True, metavar="FILE", dest="path", help="ROOT file to write")
    simulate.add_argument("--seed", type=int, default=0)
    simulate.add_argument("--workers", type=int, default=1)
    simulate.add_argument("--m-top", type=float, metavar="GEV")
    simulate.add_argument("--variant", default="nominal")
    simulate.add_argument("--no-underlying-event", action="store_false", dest="underlying_event")
    simulate.add_argument("--lhe", metavar="FILE", help="Les Houches file to shower")
    simulate.add_argument("--pt-hat-min", type=float, metavar="GEV")
    simulate.add_argument(
        "--generated-fraction",
        type=float,
        default=1.0,
        metavar="F",
        help="share of all generated events whose hard process is kept (0: none)",
    )
    simulate.add_argument(
        "--levels",
        nargs="+",
        choices=("particle", "detector"),
        default=("particle", "detector"),
        help="store events that pass the selection at any of these levels (after PROCESS)",
    )
    simulate.add_argument(
        "--cut", action="append", default=[], metavar="NAME=VALUE", help="change a cut of the selection, e.g. jet_pt=30"
    )
    simulate.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="a further Pythia setting"
    )
    simulate.add_argument("--force", action="store_true", help="overwrite FILE")
    simulate.set_defaults(call=_simulate)

    partons = commands.add_parser("partons", help="write spin-correlated leading-order events for 'simulate --lhe'")
    partons.add_argument("process", metavar="PROCESS", help="ttbar_dilepton, ttbar_semileptonic or tth_semileptonic")
    partons.add_argument("-n", type=int, required=True, metavar="EVENTS", dest="n")
    partons.add_argument(
        "-o", required=True, metavar="FILE", dest="path", help="Les Houches file to write (.gz: packed)"
    )
    partons.add_argument("--seed", type=int, default=0)
    partons.add_argument(
        "--alpha", type=float, default=0.0, metavar="RAD", help="CP phase of the top's Yukawa coupling"
    )
    partons.add_argument("--c-tg", type=float, default=0.0, metavar="C", help="coefficient of O_tG in 1/TeV²")
    partons.add_argument("--sampler", metavar="FILE", help="checkpoint of a trained sampler; a VEGAS grid by default")
    partons.set_defaults(call=_partons)

    info = commands.add_parser("info", help="print what a sample holds")
    info.add_argument("path", metavar="FILE")
    info.set_defaults(call=_info)

    processes = commands.add_parser("processes", help="list processes, selections and variants")
    processes.set_defaults(call=_processes)

    run = commands.add_parser("run", help="execute chapters with papermill")
    run.add_argument("chapters", nargs="*", metavar="CHAPTER", help="numbers or names; all if none is given")
    run.add_argument("--profile", default="quick", help="quick (default), full, train or paper")
    run.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", dest="parameters")
    run.add_argument("--force", action="store_true", help="run again what is unchanged")
    run.set_defaults(call=_run)

    build = commands.add_parser("build", help="render the book from executed chapters")
    build.add_argument("--profile", default="quick")
    build.add_argument("--strict", action="store_true", help="treat warnings as errors")
    build.set_defaults(call=_build)

    keep = commands.add_parser("keep", help="store the outputs that tests compare, from the last quick run")
    keep.add_argument("chapters", nargs="*", metavar="CHAPTER")
    keep.set_defaults(call=_keep)

    strip = commands.add_parser("strip", help="take outputs out of stored notebooks, but for those that tests compare")
    strip.add_argument("chapters", nargs="*", metavar="CHAPTER")
    strip.set_defaults(call=_strip)

    chapters = commands.add_parser("chapters", help="list chapters, parameters and run times")
    chapters.set_defaults(call=_chapters)
    return parser


def _assignments(pairs: Sequence[str], option: str) -> dict:
    """Read NAME=VALUE options; raise InputError where one is not."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {pair}: expected NAME=VALUE")
        try:
            values[name.strip()] = _value(value)
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"{option} {pair}: the value is not YAML; put text in quotes") from error
    return values


def _value(text: str):
    """Read an integer, a number (YAML takes 1e-2 for text), nothing as empty text, else YAML."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return yaml.safe_load(text) if text.strip() else ""


def _simulate(options) -> None:
    from rewind import events

    cuts = _assignments(options.cut, "--cut")
    names = (
        "process",
        "n_events",
        "path",
        "seed",
        "workers",
        "m_top",
        "variant",
        "underlying_event",
        "lhe",
        "pt_hat_min",
        "generated_fraction",
        "levels",
        "force",
    )
    events.simulate(**{name: getattr(options, name) for name in names}, cuts=cuts, settings=tuple(options.settings))
    print(events.summary(options.path))


def _partons(options) -> None:
    from rewind.generation import parton_level

    sampler = options.sampler and parton_level.load_sampler(options.sampler, options.process)
    drawn = parton_level.generate(
        options.process,
        options.n,
        options.path,
        seed=options.seed,
        sampler=sampler,
        alpha=options.alpha,
        c_tg=options.c_tg,
    )
    print(f"{options.n} events, {drawn.repeated} of them copies; {drawn.efficiency:.1%} of points kept; {options.path}")


def _info(options) -> None:
    from rewind import events

    print(events.summary(options.path))


def _processes(_options) -> None:
    from rewind import events

    for name, process in events.PROCESSES.items():
        need = process.selection
        print(f"{name:20} {process.title}")
        print(f"{'':20} needs {need.n_leptons} leptons, {need.n_jets} jets, {need.n_bjets} of them b-tagged")
    print(f"variants: {', '.join(events.VARIANTS)}")


def _book():
    from rewind import paths
    from rewind.book import Book

    return Book(paths.root())


def _run(options) -> None:
    parameters = _assignments(options.parameters, "-p")
    from rewind.runner import run

    run(_book(), options.chapters, profile=options.profile, parameters=parameters, force=options.force)


def _build(options) -> None:
    print(f"open {_book().build(profile=options.profile, strict=options.strict)}")


def _keep(options) -> None:
    _book().keep_outputs(options.chapters)


def _strip(options) -> None:
    _book().strip(options.chapters)


def _chapters(_options) -> None:
    from rewind.book import PROFILES

    book = _book()
    for chapter in book.chapters:
        print(f"{chapter.name}: {chapter.title}")
        for profile in PROFILES:
            if record := book.last_run(chapter, profile):
                print(f"    last {profile} run: {record['seconds']} s")
        for name, default in chapter.parameters.items():
            print(f"    {name} = {default}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 after one line on a user's error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.call(options)
    except InputError as error:
        print(f"rewind: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rewind: interrupted; repeat the command to go on from what is finished", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
