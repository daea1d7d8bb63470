"""`trivium bench` measures what it names and writes the documented JSON."""

import json

import pytest
from trivium.cli import main


@pytest.mark.parametrize("only", ["suffix", "verify"])
def test_bench_writes_every_key(tmp_path, only):
    path = tmp_path / "bench.json"
    assert main(["bench", "--repeat", "3", "--only", only, "--quiet", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert set(result) >= {"machine", "commit", "results"}
    assert result["results"]
    for figure in result["results"]:
        assert set(figure) == {
            "name", "unit", "median", "min", "max", "n", "peer", "peer_median",
        }  # fmt: skip
        assert 0 < figure["min"] <= figure["median"] <= figure["max"]
        assert only in figure["name"]
