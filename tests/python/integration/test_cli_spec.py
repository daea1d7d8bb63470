"""``trivium spec sim``: replays, their figures, and estimates that keep what they promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trivium import cli, sources
from trivium.cli import extras
from trivium.cli.simulate import Config, Result, Trace, load, replay
from trivium.errors import InputError

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "data" / "traces-tiny.jsonl"
RECORDED = ROOT.parent / "shared" / "data" / "traces" / "traces-dev.jsonl.gz"


def sim(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any, str]:
    code = cli.main(["spec", "sim", *argv, "--json", "-", "--quiet"])
    seen = capsys.readouterr()
    return code, json.loads(seen.out) if code == cli.OK else None, seen.err


def test_figures_of_a_small_trace(capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = sim(capsys, str(TINY), "--nodes", "4,8")
    assert code == cli.OK
    rows = found["results"]
    assert [(r["task"], r["mode"], r["nodes"]) for r in rows] == [
        (task, mode, nodes) for mode in ("warm", "cold") for task in "ba" for nodes in (4, 8)
    ]
    for row in rows:
        assert row["tokens"] == 180  # 3 requests of 60 tokens
        assert 1.0 < row["mat"] == pytest.approx(row["tokens"] / row["steps"])
        assert 0 < row["nodes_per_step"] <= row["nodes"]
        assert row["sources"] == "auto"
        tried, accepted = (sum(row["calibration"][k]) for k in ("tried", "accepted"))
        assert tried >= accepted > 0
    by_mode = {
        mode: sum(r["steps"] for r in rows if r["mode"] == mode) for mode in ("warm", "cold")
    }
    assert by_mode["warm"] < by_mode["cold"], "the texts share phrases"


def test_a_replay_that_cannot_draft_takes_one_step_a_token() -> None:
    trace = Trace("x", [1], list(range(2, 40)), [])
    result = replay([trace], Config(sources=("suffix",)))
    assert (result.mat, result.hit_rate) == (1.0, 0.0)


def test_siblings_and_ablation_and_costs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, found, _ = sim(capsys, str(TINY), "--nodes", "8", "--mode", "cold", "--siblings")
    assert code == cli.OK
    alone, together = found["results"]  # task a alone has siblings
    assert (alone["mode"], together["mode"]) == ("cold", "cold+siblings")
    assert together["tokens"] == alone["tokens"]
    assert together["mat"] > alone["mat"]
    cost = tmp_path / "cost.json"
    cost.write_text('{"1": 0.02, "64": 0.02}')
    argv = ("--nodes", "8", "--mode", "warm", "--task", "a", "--ablate", "--cost-file", str(cost))
    code, found, _ = sim(capsys, str(TINY), *argv)
    assert [r["sources"] for r in found["results"]] == ["suffix,recycle", "suffix", "recycle"]
    for row in found["results"]:
        assert row["speedup"] == pytest.approx(row["mat"], rel=0.05), "a pass costs the same"


def test_every_source_is_replayed_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ("--nodes", "8", "--mode", "warm", "--task", "a")
    code, found, _ = sim(capsys, str(TINY), *argv, "--each")
    assert code == cli.OK
    rates = {r["sources"]: r["mat"] for r in found["results"]}
    assert list(rates) == ["auto", *sources.names()]
    drafting = [name for name, mat in rates.items() if mat > 1.1]
    assert {"suffix", "prompt_lookup", "ngram", "ngram_cache", "trie", "aded"} <= set(drafting)
    # A source with a file and settings, chosen by name.
    corpus = tmp_path / "corpus.safetensors"
    texts = [t.output for t in load(TINY) if t.task == "a"]
    width = 1 + max(max(t.prompt + t.output) for t in load(TINY))
    sources.build_corpus(corpus, texts, width)
    with_file = str(sources.Rest(corpus, max_ngram=4))
    code, found, _ = sim(
        capsys, str(TINY), *argv, "--sources", with_file, "--vocab-size", str(width)
    )
    assert code == cli.OK
    assert found["results"][0]["mat"] > rates["suffix"], "it has read the very texts"


def test_peers_stand_beside_the_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    peer = tmp_path / "peer.json"
    rows = [{"task": "a", "mode": "warm", "nodes": 8, "mat": 1.5}]
    peer.write_text(json.dumps({"peer": "another", "results": rows}))
    code = cli.main(["spec", "sim", str(TINY), "--task", "a", "--nodes", "8", "--peer", str(peer)])
    assert code == cli.OK
    lines = capsys.readouterr().out.splitlines()
    assert "peer" in lines[1]
    assert "1.500" in next(line for line in lines if line.startswith("a     warm"))


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("missing.jsonl",), "cannot be read"),
        ((str(ROOT / "pyproject.toml"),), "cannot be read"),
        ((str(TINY), "--task", "c"), "no trace of 'c'"),
        ((str(TINY), "--mode", "hot"), "warm and cold"),
        ((str(TINY), "--nodes", "many"), "list of numbers"),
        ((str(TINY), "--sources", "magic"), "magic"),
        ((str(TINY), "--vocab-size", "3"), "vocab"),
    ],
)
def test_bad_input_is_usage(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], why: str
) -> None:
    code, _, err = sim(capsys, *argv)
    assert code == cli.USAGE
    assert why in err


def test_damaged_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    for line in ('{"prompt": [1]}', '{"prompt": [], "output": [1]}', "[1]", '{"prompt": 1}'):
        path.write_text('{"prompt": [1], "output": [2]}\n' + line)
        with pytest.raises(InputError, match="line 2"):
            load(path)


def test_the_plot_needs_its_extra(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "plot.svg"
    if not extras.missing("report"):
        code, _, _ = sim(capsys, str(TINY), "--nodes", "2,4", "--plot", str(image))
        assert code == cli.OK
        assert b"</svg>" in image.read_bytes()
    monkeypatch.setitem(extras.EXTRAS, "report", ("no_such_module",))
    code, _, err = sim(capsys, str(TINY), "--plot", str(image))
    assert code == cli.MISSING_EXTRA
    assert "pip install 'trivium[report]'" in err


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded traces are not here")
@pytest.mark.parametrize(("task", "limit"), [("chat", 24), ("math", 200), ("agent", 60)])
def test_estimates_are_calibrated_and_beat_the_recorded_peer(task: str, limit: int) -> None:
    rows = [t for t in load(RECORDED) if t.task == task][:limit]
    peer = {"chat": 1.541, "math": 1.513, "agent": 1.862}[task]

    def run(*, warm: bool) -> Result:
        return replay(rows, Config(nodes=16, warm=warm), vocab_size=128_256)

    cold, warm = run(warm=False), run(warm=True)
    assert cold.calibration["error"] < 0.03
    assert warm.calibration["error"] < 0.03
    assert cold.mat > peer
    assert warm.mat > cold.mat
