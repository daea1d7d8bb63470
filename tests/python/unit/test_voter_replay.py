"""Replays of recorded answers agree with the NumPy reference to the last digit."""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import re
import sys
import types

import pytest
from trivium import Voter
from trivium.cli import vote
from trivium.errors import InputError, UnsupportedError

POLICIES = ("majority", "locked", "beta:0.9", "beta:0.95", "beta:0.99")


@pytest.fixture(scope="module")
def votes_folder(request):
    folder = request.config.rootpath.parent / "shared" / "data" / "votes"
    if not folder.is_dir():
        pytest.skip("the shared votes are not beside this checkout (../shared/data/votes)")
    return folder


@pytest.fixture(scope="module")
def reference(request):
    path = request.config.rootpath.parent / "shared" / "tools" / "votes_reference.py"
    if not path.is_file():
        pytest.skip("the reference is not beside this checkout (../shared/tools)")
    # The reference imports SciPy for parts that are not used here.
    stub = types.ModuleType("scipy")
    for name in ("integrate", "optimize", "special", "stats"):
        setattr(stub, name, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "scipy", stub)
        spec = importlib.util.spec_from_file_location("votes_reference", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    module.beta_confidence = module.beta_confidence_binomial
    return module


@pytest.mark.parametrize(
    ("name", "perms"), [("fcot_aqua", 3), ("game24_cot100", 3), ("math_rm8", 3), ("fcot_date", 2)]
)
def test_scores_equal_the_reference(votes_folder, reference, name, perms):
    path = votes_folder / f"{name}.jsonl.gz"
    _, questions = reference.load(path)
    cap = min(40, max(len(q["votes"]) for q in questions))
    rules = {"majority": reference.majority(cap), "locked": reference.locked(cap)}
    rules |= {f"beta:{c}": reference.adaptive_beta(c, cap) for c in (0.9, 0.95, 0.99)}
    expected = reference.replay(questions, rules, perms, seed=0)
    scores = vote.replay_set(vote.load(path), POLICIES, perms=perms)
    for policy in POLICIES:
        theirs, ours = expected[policy], scores[policy]
        assert ours["accuracy"] == pytest.approx(theirs["acc"], abs=1e-9)
        assert ours["samples"] == pytest.approx(theirs["samples"], abs=1e-9)
        assert ours["agreement"] == pytest.approx(theirs["agree"], abs=1e-9)


def test_means_are_the_published_ones(votes_folder):
    scores = vote.replay(votes_folder, POLICIES, perms=10)
    published = {
        "majority": (77.45, 34.56, 100),
        "locked": (77.45, 24.35, 100),
        "beta:0.9": (77.27, 10.99, 98.76),
        "beta:0.95": (77.41, 13.93, 99.67),
        "beta:0.99": (77.44, 18.44, 99.99),
    }
    for policy, figures in published.items():
        mean = scores[policy]["mean"]
        found = (mean["accuracy"], mean["samples"], mean["agreement"])
        assert found == pytest.approx(figures, abs=0.0101)


ONE_NUMBER = re.compile(r"[^\d+*/^=<>-]*-?[^\d+*/^=<>-]*\d[\d,]*(\.\d+)?[^\d+*/^=<>-]*")
"""An answer that holds one number and no operator: what it is extracted from does not matter."""


@pytest.mark.parametrize(
    ("name", "key", "least"),
    [
        ("gsm8k_models", "number", 0.9999),
        ("fcot_multiarith", "number", 1.0),
        ("synthetic_lp64", "number", 1.0),
        ("fcot_aqua", "choice", 0.999),
    ],
)
def test_keys_partition_the_raw_answers_as_expected(votes_folder, name, key, least):
    v = Voter(key)
    total = same = 0
    for question in vote.load(votes_folder / f"{name}.jsonl.gz").questions:
        for ballot in question["votes"]:
            raw = ballot["a"]
            if raw is None or len(raw) >= 160:  # cut off by the format
                continue
            if key == "number" and not ONE_NUMBER.fullmatch(raw):
                continue
            expected = None if ballot["k"] is None else question["keys"][ballot["k"]]
            total += 1
            same += v.key_of(raw) == expected
    assert same / total >= least, f"{same} of {total}"


@pytest.fixture
def small_folder(tmp_path):
    header = {"format": "votes-v1", "dataset": "small"}
    votes = [{"a": "1", "k": 0, "n": 1}] * 6 + [{"a": None, "k": None, "n": 1}] * 2
    question = {"q": "q:1", "gold": "1", "keys": ["1"], "ok": [1], "votes": votes}
    lost = {**question, "q": "q:2", "votes": votes[-1:] * 8}
    lines = "\n".join(map(json.dumps, (header, question, lost))) + "\n"
    (tmp_path / "small.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return tmp_path


def command(*arguments):
    parser = argparse.ArgumentParser()
    vote.add_parser(parser.add_subparsers())
    args = parser.parse_args(["vote", "run", *map(str, arguments)])
    return args.run(args)


def test_the_command_writes_the_documented_keys(small_folder, tmp_path, capsys):
    path = tmp_path / "scores.json"
    code = command(small_folder, "--policy", "majority", "--policy", "beta:0.95", "--json", path)
    assert code == 0
    scores = json.loads(path.read_text())
    assert list(scores) == ["majority", "beta:0.95"]
    assert scores["majority"]["mean"] == {"accuracy": 50, "samples": 8, "agreement": 100}
    assert set(scores["beta:0.95"]["sets"]) == {"small"}
    assert scores["beta:0.95"]["mean"]["samples"] < 8
    assert "beta:0.95" in capsys.readouterr().out


def test_wrong_arguments_exit_with_2(small_folder, tmp_path, capsys):
    assert command(tmp_path / "absent") == 2
    assert command(small_folder, "--policy", "esc:5") == 2
    assert command(small_folder, "--policy", "nonsense") == 2
    assert command(small_folder, "--perms", 0) == 2
    assert command(small_folder, "--seed", -1) == 2
    assert command(small_folder, "--name", "other") == 2
    assert command(small_folder, "--json", tmp_path / "no" / "where.json") == 2
    assert capsys.readouterr().err.count("trivium vote run:") == 7


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        gzip.compress(b"{}\n"),
        gzip.compress(b'{"format": "votes-v1"}\n'),
        gzip.compress(b'{"format": "votes-v1"}\n{"q": "x", "ok": [1], "votes": [{"k": 3}]}\n'),
        gzip.compress(b'{"format": "votes-v1"}\n{"q": "x", "ok": [1], "votes": []}\n'),
        gzip.compress(b'{"format": "votes-v1"}\n{"q": "x"}\n'),
        gzip.compress(b'{"format": "votes-v1"}\n')[:-4],
    ],
)
def test_damaged_files_are_input_errors(tmp_path, content):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(InputError):
        vote.load(path)


def test_rules_that_do_not_exist_yet_are_unsupported(small_folder):
    with pytest.raises(UnsupportedError):
        vote.replay(small_folder, ["dirichlet:0.95"])
