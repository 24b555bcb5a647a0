"""The one entry for every check: ``nox -l`` lists them. ``--no-venv`` runs them in the environment at hand (CI does)."""

from __future__ import annotations

import pathlib

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"

CONSTRAINTS = ("-c", "constraints.txt")


def install(session: nox.Session, *what: str) -> None:
    """Install into the session's environment, unless it runs in ours."""
    if session.virtualenv.venv_backend != "none":
        session.install(*CONSTRAINTS, *what)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, types, and the one way of imports."""
    install(session, ".[test,dev]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """The suite; with stock duplicity where .stock has it (scripts/test makes it)."""
    install(session, ".[test]")
    session.run("pytest", "-q", "-n", "auto", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The suite under branch coverage, and the lines that no test runs."""
    install(session, ".[test]")
    session.run("coverage", "run", "-m", "pytest", "-q", *session.posargs)
    session.run("coverage", "report", "--skip-covered", "--show-missing")


@nox.session
def interop(session: nox.Session) -> None:
    """Many more random trees through stock duplicity and back than the quick run does."""
    install(session, ".[test]")
    session.run("pytest", "-q", "-m", "interop", "tests", *session.posargs, env={"ASYNCDUP_INTEROP_EXAMPLES": "200"})


@nox.session
def torture(session: nox.Session) -> None:
    """The searches for counterexamples of the suite, a hundred times as long: most of a day. The soak alone takes a worker 8 hours."""
    install(session, ".[test]")
    many = {
        "ASYNCDUP_SIMULATIONS": "50000",
        "ASYNCDUP_EXAMPLES": "20000",
        "ASYNCDUP_PAIRS": "1000",
        "ASYNCDUP_CRASH_SHARE": "1",
        "ASYNCDUP_FUZZ": "10000000",
        "ASYNCDUP_FLIPS": "5000",
        "ASYNCDUP_HOSTILE": "100000",
        "ASYNCDUP_CRASH_SEEDS": "50",  # more than 20,000 different states
        "ASYNCDUP_KILLS": "500",
        "ASYNCDUP_CANCEL_POINTS": "1000",
        "ASYNCDUP_SOAK": "480",  # minutes
        "ASYNCDUP_INTEROP_EXAMPLES": "200",
    }
    session.run("pytest", "-q", "-n", "auto", "--timeout", "36000", "tests", *session.posargs, env=many)


@nox.session(python="3.11")
def fuzz(session: nox.Session) -> None:
    """Inputs that reach new code in each parser, or those named, for 10 minutes each; what was found is in build/fuzz."""
    install(session, ".[test]", "atheris>=3")
    names = session.posargs or sorted(path.name for path in pathlib.Path("tests/fuzz/corpus").iterdir() if path.is_dir())
    for name in names:
        found = pathlib.Path("build/fuzz", name).absolute()
        found.mkdir(parents=True, exist_ok=True)
        options = ["-max_total_time=600", f"-artifact_prefix={found}-"]
        session.run("python", "-m", "fuzz.coverage_guided", name, str(found), *options, env={"PYTHONPATH": "tests"})


@nox.session
def lowest(session: nox.Session) -> None:
    """The oldest versions that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", ".[test]")
    session.run("pytest", "-q", "-n", "auto", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Local benchmarks beside stock duplicity; prints medians and ratios."""
    install(session, ".[bench]")
    session.run("python", "-m", "benchmarks.local", *session.posargs)


@nox.session
@nox.parametrize("what", ["backends", "latency", "simulated", "unplug"])
def bench_far(session: nox.Session, what: str) -> None:
    """Backends beside other clients; links of high latency and one that goes away (both as root, in network namespaces); 10,000 volumes."""
    install(session, ".[bench]")
    session.run("python", "-m", f"benchmarks.{what}", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The site, in build/site; a warning is an error. Its screens are drawn anew into build/screens: that they can be is a check of its own."""
    install(session, ".[docs]")
    session.run("python", "scripts/screens.py", "build/screens")
    session.run("python", "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "build/site")
