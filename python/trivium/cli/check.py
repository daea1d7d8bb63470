"""``trivium check``: the exactness kit on the built-in verifiers, or on a callable of yours."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium import _core
from trivium.cli.output import Output, add_common
from trivium.cli.progress import Progress
from trivium.errors import InputError, StateError, UnsupportedError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from trivium.testing import CheckResult

__all__ = ["add_parser", "check_all", "check_target", "load", "run"]

KINDS = ("verifier", "sampler", "engine", "mask")
_SIGNATURES = {
    ("tree", "p", "q", "rng"): "verifier",
    ("logits", "params", "rng"): "sampler",
    ("prompt", "seed", "params"): "engine",
    ("problem", "prefix"): "mask",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``check`` to the command line."""
    parser = subparsers.add_parser(
        "check",
        help="prove verifiers and samplers unbiased, yours or the built-in ones",
        description=(
            "Without a target: enumerate the built-in verifiers, put the planted bugs to the kit, "
            "and count the mutants that survive. With one: check that callable. Exit code 1 if "
            "anything is wrong."
        ),
    )
    parser.add_argument("target", nargs="?", metavar="MODULE:FUNCTION", help="callable to check")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        help="what the callable is; by default read from its parameters' names: "
        "(tree, p, q, rng), (logits, params, rng), (prompt, seed, params), (problem, prefix)",
    )
    parser.add_argument(
        "--draft",
        help="how trees are drafted for a verifier: chain (default), with_replacement, "
        "without_replacement, deterministic, race",
    )
    parser.add_argument("--tolerance", type=float, help="total variation that counts as rounding")
    parser.add_argument("--quick", action="store_true", help="fewer cases")
    add_common(parser)
    parser.set_defaults(run=run)


def load(target: str) -> Callable[..., Any]:
    """Import a callable named ``module:function``; the current folder is searched too.

    Raises
    ------
    InputError
        The name is malformed, or there is no such module or callable.
    """
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise InputError(f"target: {target!r} is not of the form module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"target: {target!r} cannot be imported: {error}") from error
    if not callable(found):
        raise InputError(f"target: {target!r} is not callable")
    checked: Callable[..., Any] = found
    return checked


def kind_of(fn: Callable[..., Any]) -> str:
    """Read from its parameters' names what a callable is.

    Raises
    ------
    InputError
        The names tell nothing.
    """
    try:
        given = tuple(
            p.name
            for p in inspect.signature(fn).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        )
    except (TypeError, ValueError):
        given = ()
    for names, kind in _SIGNATURES.items():
        if given == names:
            return kind
    four = [kind for names, kind in _SIGNATURES.items() if len(names) == len(given) == 4]
    if four:
        return four[0]
    raise InputError(
        f"kind: the parameters ({', '.join(given)}) do not tell what is checked; "
        f"give --kind {'|'.join(KINDS)}"
    )


def check_target(
    fn: Callable[..., Any],
    kind: str,
    *,
    quick: bool = False,
    seed: int = 0,
    draft: str | None = None,
    tolerance: float | None = None,
    name: str | None = None,
) -> CheckResult:
    """Check one callable.

    Raises
    ------
    InputError
        An option that the kind does not have.
    """
    from trivium import testing

    options: dict[str, Any] = {"quick": quick, "seed": seed, "name": name}
    if draft is not None:
        if kind != "verifier":
            raise InputError(f"draft: belongs to verifiers, not to a check of kind {kind}")
        options["draft"] = draft
    if tolerance is not None:
        if kind not in ("verifier", "sampler"):
            raise InputError(
                f"tolerance: belongs to enumerated laws, not to a check of kind {kind}"
            )
        options["tolerance"] = tolerance
    checks: dict[str, Callable[..., CheckResult]] = {
        "verifier": testing.check_verifier,
        "sampler": testing.check_sampler,
        "engine": testing.check_engine,
        "mask": testing.check_mask,
    }
    return checks[kind](fn, **options)


def _builtin(name: str) -> Callable[..., Any]:
    fn: Callable[..., Any] | None = getattr(_core, name, None)
    if fn is None:
        raise StateError(
            f"the installed extension module has no {name}; build it from this version's sources"
        )
    return fn


def check_all(*, quick: bool = False, seed: int = 0, quiet: bool = True) -> dict[str, Any]:
    """Run the kit on what is built in.

    Parameters
    ----------
    quick : bool, optional
        Fewer cases for the verifiers.
    seed : int, optional
        Seed of the problems that planted bugs are put to.
    quiet : bool, optional
        Show no progress.

    Returns
    -------
    dict
        ``verifiers``: name, guarantee, cases and worst total variation of each; ``planted``: name,
        kind, whether it was caught, seconds, total variation; ``mutants``: how many were made, how
        many survived; ``ok``.
    """
    from trivium.testing import planted

    # Ask for both before the long part: a build without them cannot be checked.
    verifiers, mutants = _builtin("check_verifiers"), _builtin("check_mutants")
    bugs = planted.catalogue()
    out: dict[str, Any] = {}
    with Progress("check", len(bugs) + 2, quiet=quiet) as progress:
        out["verifiers"] = [dict(row) for row in verifiers(quick)]
        progress.step(note="verifiers")
        out["planted"] = []
        for bug in bugs:
            result = bug.run(seed=seed)
            found = result.counterexample
            out["planted"].append(
                {
                    "name": bug.name,
                    "kind": bug.kind,
                    "released": bug.released,
                    "caught": not result.ok,
                    "seconds": round(result.seconds, 3),
                    "method": result.method,
                    "tv": found.tv if found else 0.0,
                    "what": bug.summary,
                }
            )
            progress.step(note=bug.name)
        made = dict(mutants())
        out["mutants"] = {
            "made": made["made"],
            "survived": made["survived"],
            "names": list(made.get("names", [])),
        }
        progress.step(note="mutants")
    out["ok"] = (
        bool(out["verifiers"])
        and all(_holds(row) for row in out["verifiers"])
        and all(row["caught"] for row in out["planted"])
        and made["survived"] == 0
    )
    return out


def _holds(row: dict[str, Any]) -> bool:
    """Whether a rule keeps its guarantee; a lossy one promises that its report covers its error."""
    error = row.get("uncovered", 0.0) if row["guarantee"] == "lossy" else row["worst_tv"]
    return bool(row["cases"] > 0 and error <= 1e-12)


def run(args: argparse.Namespace) -> int:
    """Run ``check``; the exit code is 0, or 1 if something is wrong."""
    out = Output(args)
    if args.target is not None:
        fn = load(args.target)
        kind = args.kind or kind_of(fn)
        result = check_target(
            fn,
            kind,
            quick=args.quick,
            seed=args.seed,
            draft=args.draft,
            tolerance=args.tolerance,
            name=args.target,
        )
        out.result(result.report())
        out.json(result.as_dict())
        return 0 if result.ok else 1
    for option in ("kind", "draft", "tolerance"):
        if getattr(args, option) is not None:
            raise UnsupportedError(f"{option}: belongs to a check of MODULE:FUNCTION")
    found = check_all(quick=args.quick, seed=args.seed, quiet=args.quiet)
    out.table(
        "verifiers",
        ("name", "guarantee", "cases", "worst total variation", ""),
        [
            (
                r["name"],
                r["guarantee"],
                r["cases"],
                f"{r['worst_tv']:.2g}",
                "ok" if _holds(r) else "BROKEN",
            )
            for r in found["verifiers"]
        ],
    )
    out.result()
    out.table(
        "planted bugs",
        ("name", "kind", "seconds", "total variation", ""),
        [
            (
                r["name"],
                r["kind"],
                f"{r['seconds']:.2f}",
                f"{r['tv']:.2g}",
                "caught" if r["caught"] else "SURVIVED",
            )
            for r in found["planted"]
        ],
    )
    caught = sum(r["caught"] for r in found["planted"])
    mutants = found["mutants"]
    out.result()
    out.result(
        f"{caught} of {len(found['planted'])} planted bugs caught; "
        f"{mutants['survived']} of {mutants['made']} mutants survived"
    )
    out.json(found)
    return 0 if found["ok"] else 1
