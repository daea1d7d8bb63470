"""``trivium check``, and the how-to page of the kit."""

from __future__ import annotations

import json
import re

import pytest
from trivium import _core, cli
from trivium.cli import check
from trivium.errors import InputError
from trivium.testing import planted

SOURCE = """
def verify(tree, p, q, rng):
    return [rng.categorical(p[0])]

def wrong(tree, p, q, rng):
    return [rng.categorical(q[0])]

def sample(logits, params, rng):
    return 0

def anything(*args):
    return [0]

class Engine:
    def __call__(self, prompt, seed, params):
        return [0]

engine = Engine()
number = 3
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    (tmp_path / "kit_engine_under_test.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "kit_engine_under_test"


@pytest.fixture
def core(monkeypatch):
    """Stand in for what the extension answers."""
    rows = [
        {"name": "sampled", "guarantee": "path", "cases": 10, "worst_tv": 0.0},
        {"name": "typical", "guarantee": "lossy", "cases": 10, "worst_tv": 0.3, "uncovered": 0.0},
    ]
    mutants = {"made": 5, "survived": 0, "names": list("abcde")}
    monkeypatch.setattr(_core, "check_verifiers", lambda quick: rows, raising=False)
    monkeypatch.setattr(_core, "check_mutants", lambda: mutants, raising=False)
    monkeypatch.setattr(planted, "catalogue", lambda: planted.VERIFIERS[:2])
    return rows, mutants


def test_a_right_callable_exits_with_0(engine, capsys, tmp_path):
    path = tmp_path / "out.json"
    assert cli.main(["check", f"{engine}:verify", "--quick", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["ok"]
    assert found["kind"] == "verifier"
    assert "ok (" in capsys.readouterr().out


def test_a_wrong_callable_exits_with_1(engine, capsys):
    assert cli.main(["check", f"{engine}:wrong"]) == 1
    assert "came out" in capsys.readouterr().out
    assert cli.main(["check", f"{engine}:sample", "--quick"]) == 1
    assert cli.main(["check", f"{engine}:engine"]) == 1
    assert cli.main(["check", f"{engine}:anything", "--kind", "mask"]) == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["{}:anything"],
        ["{}:number"],
        ["{}:missing"],
        ["no_such_module_here:fn"],
        ["{}"],
        ["{}:verify", "--draft", "sideways"],
        ["{}:sample", "--draft", "chain"],
        ["{}:verify", "--kind", "engine", "--tolerance", "0.1"],
        ["--kind", "mask"],
        ["{}:verify", "--kind", "poem"],
    ],
)
def test_wrong_usage_exits_with_2(engine, capsys, argv):
    assert cli.main(["check", *(a.format(engine) for a in argv)]) == 2
    assert capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_kit_on_this_build(capsys):
    assert cli.main(["check", "--quick", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["verifiers"]) >= 10
    assert len(found["planted"]) >= 60
    assert all(row["caught"] for row in found["planted"])
    assert found["mutants"]["made"] > found["mutants"]["survived"] == 0


def test_kinds_are_read_from_names():
    assert check.kind_of(lambda tree, p, q, rng: 0) == "verifier"
    assert check.kind_of(lambda a, b, c, d: 0) == "verifier"
    assert check.kind_of(lambda logits, params, rng, extra=1: 0) == "sampler"
    assert check.kind_of(lambda prompt, seed, params: 0) == "engine"
    assert check.kind_of(lambda problem, prefix: 0) == "mask"
    with pytest.raises(InputError):
        check.kind_of(lambda a, b, c: 0)


def test_the_whole_kit_as_json(core, capsys):
    assert cli.main(["check", "--quick", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verifiers"] == core[0]
    assert found["mutants"]["made"] == 5
    assert found["mutants"]["survived"] == 0
    assert [set(row) >= {"name", "caught", "seconds"} for row in found["planted"]] == [True] * 2
    assert all(row["caught"] for row in found["planted"])


def test_a_surviving_mutant_a_broken_verifier_or_a_survivor_fail(core, capsys, monkeypatch):
    rows, mutants = core
    mutants["survived"] = 1
    assert cli.main(["check", "--quick"]) == 1
    assert "1 of 5 mutants survived" in capsys.readouterr().out
    mutants["survived"] = 0
    rows[0]["worst_tv"] = 1e-6
    assert cli.main(["check", "--quick"]) == 1
    assert "BROKEN" in capsys.readouterr().out
    rows[0]["worst_tv"] = 0.0
    right = planted.Planted("right", "verifier", planted.VERIFIERS[0].fn, _passes)
    monkeypatch.setattr(planted, "catalogue", lambda: (right,))
    assert cli.main(["check", "--quick"]) == 1
    assert "SURVIVED" in capsys.readouterr().out


def _passes(fn, **options):
    from trivium.testing import check_verifier, reference

    return check_verifier(reference.sampled, **options)


def test_a_build_without_verifiers_says_so(capsys, monkeypatch):
    monkeypatch.delattr(_core, "check_verifiers", raising=False)
    assert cli.main(["check", "--quick"]) == 1
    assert "check_verifiers" in capsys.readouterr().err


def test_the_how_to_page_runs(root, capsys):
    text = (root / "docs" / "howto" / "check-a-sampler.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    assert len(snippets) >= 5
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, "check-a-sampler.md", "exec"), names)
    out = capsys.readouterr().out
    assert "verifier hasty: FAILED" in out
    assert "no token of a vocabulary of" in out
    shown = re.search(r"^minimal problem.*?^laws", text, flags=re.M | re.S)
    assert shown
    assert shown.group() in out
