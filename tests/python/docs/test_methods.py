"""Every row of docs/methods.md: the files exist, the option constructs, no method is left out."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trivium
from trivium.errors import TriviumError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
COLUMNS = ["paper", "code", "option", "guarantee", "test"]
CODE = re.compile(r"`([^`]+)`")
TESTS = re.compile(r"`([^`]+)` \(([^)]+)\)")


@dataclass(frozen=True)
class Row:
    area: str
    paper: str
    code: str
    option: str
    guarantee: str
    test: str


def cells(line: str) -> list[str]:
    """Cells of a table line; an escaped bar is text."""
    parts = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    return [part.strip().replace("\\|", "|") for part in parts]


def rows() -> list[Row]:
    area, found, header = "", [], None
    for line in (ROOT / "docs" / "methods.md").read_text().splitlines():
        if line.startswith("## "):
            area = line[3:]
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = cells(line)
            assert header == COLUMNS, f"table of {area}: {header}"
        elif not set(line) <= set("|:- "):
            found.append(Row(area, *cells(line)))
    return found


ROWS = rows()


def namespace() -> dict[str, Any]:
    """What an option may name; made anew for each, because some of them change it."""
    names = {name: getattr(trivium, name) for name in trivium.__all__}
    importlib.import_module("trivium.integrations.transformers")
    names["integrations"] = trivium.integrations
    names["np"] = np
    tokens = [b"a", b"b", b"c", b"ab", b"ca", b"1", b"2", b""]
    names["vocab"] = trivium.Vocabulary(tokens, eos=[7], special={7: "</s>"})
    if hasattr(trivium, "Speculator"):
        spec = trivium.Speculator(16, sources=["suffix"], seed=1)
        batch = spec.propose([spec.start([1, 2, 3, 1, 2])])
        shape = (len(batch.tokens), 16)
        logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        names.update(spec=spec, batch=batch, rows=logits)
    return names


def test_there_are_rows_in_every_area() -> None:
    areas = {row.area for row in ROWS}
    assert areas >= {"Drafting", "Verification", "Sampling", "Grammar", "Voting"}
    assert len(ROWS) >= 16


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.area}: {row.paper[:40]}")
def test_row(row: Row) -> None:
    assert len(row.paper.split()) >= 2
    assert row.guarantee
    for path in CODE.findall(row.code):
        assert (ROOT / path).is_file(), f"code {path} does not exist"
    for file, names in TESTS.findall(row.test):
        assert (ROOT / file).is_file(), f"test {file} does not exist"
        text = (ROOT / file).read_text()
        for name in names.split(", "):
            assert f"fn {name}(" in text or f"def {name}(" in text, f"{file} has no test {name}"
    assert CODE.findall(row.code)
    assert len(TESTS.findall(row.test)) == row.test.count("`") / 2 > 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.area}: {row.paper[:40]}")
def test_option_constructs(row: Row) -> None:
    options = CODE.findall(row.option)
    assert options
    for option in options:
        assert eval(option, namespace()) is not None


SHARED = {"lib", "mod", "params"}


@pytest.mark.parametrize("folder", ["rust/trivium-sample/src", "rust/trivium-vote/src/stops"])
def test_no_file_of_methods_is_left_out(folder: str) -> None:
    listed = {path for row in ROWS for path in CODE.findall(row.code)}
    methods = {
        f"{folder}/{file.name}" for file in (ROOT / folder).glob("*.rs") if file.stem not in SHARED
    }
    assert methods <= listed, f"without a row in docs/methods.md: {sorted(methods - listed)}"


@pytest.mark.parametrize(
    "misspelled",
    [
        lambda: trivium.Speculator(16, sources=["?"]),
        lambda: trivium.Speculator(16, verifier="?"),
        lambda: trivium.Voter(stop=["?"]),
    ],
    ids=["sources", "verifiers", "stop rules"],
)
def test_no_name_is_left_out(misspelled: Callable[[], object]) -> None:
    """The error for an unknown name lists the known ones; each must be some row's option."""
    with pytest.raises(TriviumError) as caught:
        misspelled()
    known = re.split(r" are |: ", str(caught.value))[-1]
    names = set(re.findall(r"[a-z_]+", known)) - {"and", "auto"}
    assert names
    options = " ".join(row.option for row in ROWS)
    missing = {name for name in names if not re.search(rf'"{name}\b', options)}
    assert not missing, f"without a row in docs/methods.md: {sorted(missing)}"
