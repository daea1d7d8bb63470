"""``trivium doctor``: what this installation is, what it finds, and whether it works."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium import _core
from trivium.cli import extras, selftest
from trivium.cli.output import Output, add_common

if TYPE_CHECKING:
    import argparse

__all__ = ["add_parser", "examine", "run"]

_STACKS = ("numpy", "torch", "transformers", "tokenizers", "tiktoken", "sentencepiece", "rich")
_FEATURES = ("sse4_2", "avx", "avx2", "fma", "bmi2", "f16c", "avx512f", "amx_tile", "asimd", "sve")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``doctor`` to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="versions, devices, extras and self-tests",
        description="Examine this installation. Exit code 1 if a self-test fails.",
    )
    parser.add_argument(
        "--imports", action="store_true", help="import the stacks too, which takes seconds"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def examine(*, imports: bool = False) -> dict[str, Any]:
    """Examine the installation.

    Parameters
    ----------
    imports : bool
        Whether to import the stacks, which finds broken ones; otherwise their versions are read
        from what is installed.

    Returns
    -------
    dict
        ``versions``, ``cpu``, ``threads``, ``gpu``, ``extras``, ``self_tests``, ``ok``; with
        `imports` also ``imports``: by stack, None or the error.
    """
    outcomes = selftest.run()
    cpu = _cpu()
    found: dict[str, Any] = {
        "versions": _versions(),
        "cpu": cpu,
        "threads": _threads(cpu["usable"]),
        "gpu": _core.cuda_doctor(),
        "extras": {
            name: {"present": not absent, "missing": absent, "install": extras.install_line(name)}
            for name in extras.EXTRAS
            for absent in [extras.missing(name)]
        },
        "self_tests": [outcome.as_dict() for outcome in outcomes],
    }
    if imports:
        found["imports"] = {name: _import(name) for name in _STACKS if found["versions"][name]}
    found["ok"] = all(outcome.ok for outcome in outcomes) and not any(
        found.get("imports", {}).values()
    )
    return found


def run(args: argparse.Namespace) -> int:
    """Run ``doctor``; the exit code is 1 if a self-test fails."""
    out = Output(args)
    found = examine(imports=args.imports)
    cpu, gpu = found["cpu"], found["gpu"]
    rows = [(name, version or "-") for name, version in found["versions"].items()]
    rows.append(("CPU", f"{cpu['model']}, {cpu['usable']} of {cpu['count']} usable"))
    rows.append(("CPU features", " ".join(cpu["features"]) or "unknown"))
    rows += [(f"threads {k}", v or "unset") for k, v in found["threads"].items()]
    rows.append(("CUDA driver", _driver(gpu["driver_version"])))
    for device in gpu["devices"]:
        major, minor = device["compute_capability"]
        memory = f"{device['memory'] / 2**30:.0f} GiB"
        rows.append((f"GPU {device['ordinal']}", f"{device['name']}, sm_{major}{minor}, {memory}"))
    rows.append(("CUDA kernels", gpu["why_not"] or f"loaded, built for {gpu['kernels_target']}"))
    rows += [(f"import {name}", error or "ok") for name, error in found.get("imports", {}).items()]
    if not out.quiet:
        out.table("machine", ("what", "found"), rows)
        out.line()
        out.table(
            "extras",
            ("extra", "present", "to install"),
            [
                (name, "yes" if e["present"] else "no", "" if e["present"] else e["install"])
                for name, e in found["extras"].items()
            ],
        )
        out.line()
    out.table(
        "self-tests",
        ("test", "outcome", "detail"),
        [(t["name"], "ok" if t["ok"] else "FAILED", t["detail"]) for t in found["self_tests"]],
    )
    out.json(found)
    return 0 if found["ok"] else 1


def _versions() -> dict[str, str | None]:
    gil = getattr(sys, "_is_gil_enabled", None)
    mode = " (free-threaded)" if gil is not None and not gil() else ""
    versions: dict[str, str | None] = {
        "trivium": _core.__version__,
        "python": platform.python_version() + mode,
        "platform": platform.platform(),
    }
    for name in _STACKS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _cpu() -> dict[str, Any]:
    model, flags = platform.processor() or platform.machine(), set[str]()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    count = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    return {
        "model": model,
        "machine": platform.machine(),
        "count": count,
        "usable": usable,
        "features": [name for name in _FEATURES if name in flags],
    }


def _threads(usable: int) -> dict[str, Any]:
    # The rule of `fill_batch`: half of the cores, one to eight of them.
    return {
        "fill_batch": min(8, max(1, usable // 2)),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def _driver(version: int | None) -> str:
    return "none" if version is None else f"{version // 1000}.{version % 1000 // 10}"


def _import(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
