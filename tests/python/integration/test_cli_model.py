"""The verbs that run a model, on a tiny random Llama saved to a folder."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from trivium import cli, tinylm

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from trivium.cli import loop, models  # noqa: E402
from trivium.integrations import transformers as adapter  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.stack

RANGES = {
    "tokens_per_call": (1, 17),
    "wall_ratio": (0, 1000),
    "host_rounding": (0, 1000),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers over bytes, as a transformers folder."""
    where = tmp_path_factory.mktemp("model")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {"</s>": 0} | {symbol: i + 1 for i, symbol in enumerate(alphabet)}
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    raw.add_special_tokens(["</s>"])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", clean_up_tokenization_spaces=False
    ).save_pretrained(where)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)  # laws with a shape, so that identity says something
    model.save_pretrained(where)
    return where


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A small model sets the threads of torch to one."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, str, str]:
    code = cli.main([str(a) for a in argv])
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def run_json(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(capsys, *argv, "--json", "-")
    return code, json.loads(out)


# ---- generate -----------------------------------------------------------------------------------


def test_streamed_text_is_the_final_text(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    where = tmp_path / "out.json"
    argv = ("generate", "--model", folder, "--prompt", "abcabc", "--max-new-tokens", 40)
    code, out, err = run(capsys, *argv, "--json", where, "--seed", 3)
    assert code == cli.OK
    found = json.loads(where.read_text(encoding="utf-8"))
    assert out == found["texts"][0] + "\n"
    assert "target calls" in err
    assert found["num_tokens"] <= 40
    assert found["environment"]["seed"] == 3


def test_text_depends_on_the_seed_and_not_on_the_sources(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    texts = {}
    for seed in (0, 1):
        for sources in ("auto", "none", "suffix", "suffix,recycle"):
            _, found = run_json(
                capsys, "generate", "--model", folder, "--prompt", "abcabc", "--dtype", "float64",
                "--max-new-tokens", 30, "--seed", seed, "--speculate", sources,
            )  # fmt: skip
            texts.setdefault(seed, set()).add(found["texts"][0])
    assert {seed: len(said) for seed, said in texts.items()} == {0: 1, 1: 1}
    assert texts[0] != texts[1]


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_compare_is_identical(
    capsys: pytest.CaptureFixture[str], folder: Path, temperature: float
) -> None:
    argv = ("generate", "--model", folder, "--prompt", "abcabcabc", "--max-new-tokens", 30)
    argv += ("--compare", "--dtype", "float64", "--temperature", temperature)
    code, found = run_json(capsys, *argv)
    compared = found["compare"]
    assert (code, compared["identical"], compared["differences"]) == (cli.OK, True, [])
    assert compared["tokens_per_call"] >= 1
    assert compared["wall_ratio"] > 0


@pytest.mark.parametrize(("kind", "wanted"), [("host_rounding", cli.OK), ("bug", cli.FAILED)])
def test_compare_fails_on_a_difference_that_is_no_rounding(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    wanted: int,
) -> None:
    real = loop.Loop.pair

    def parted(self: loop.Loop, *args: Any, **kwargs: Any) -> Any:
        plain, fast, _ = real(self, *args, **kwargs)
        rows = (plain.logit_rows[0][1], fast.logit_rows[0][1])
        return plain, fast, adapter.Difference(0, 1, (1, 2), rows, 1e-7, kind)

    monkeypatch.setattr(loop.Loop, "pair", parted)
    argv = ("generate", "--model", folder, "--prompt", "abc", "--max-new-tokens", 4, "--compare")
    code, found = run_json(capsys, *argv)
    assert code == wanted
    assert found["compare"]["identical"] is False
    first = found["compare"]["differences"][0]
    assert (first["position"], first["kind"]) == (1, kind)
    assert len(first["rows"]["plain"]) == len(first["rows"]["speculative"]) == 4


def test_loops_that_differ_are_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = loop.Loop(models.load(str(folder)), loop.Settings(max_new_tokens=8, seed=1))
    real = adapter.generate

    def other(*args: Any, **kwargs: Any) -> Any:
        if kwargs["speculator"] is not None:
            kwargs["seed"] = 2  # a loop that draws from other noise
        return real(*args, **kwargs)

    monkeypatch.setattr(adapter, "generate", other)
    _, _, difference = runner.pair("abc", runner.fresh())
    assert difference is not None
    assert difference.kind == "bug"


def test_regex_holds(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    pattern = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
    argv = ("generate", "--model", folder, "--prompt", "on ", "--regex", pattern, "--quiet")
    code, out, err = run(capsys, *argv)
    assert code == cli.OK
    assert re.fullmatch(pattern + "\n", out)
    assert not err


def test_schema_holds_and_speculation_changes_nothing(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    schema = {
        "type": "object",
        "properties": {"id": {"type": "integer", "maximum": 99}, "tag": {"enum": ["ab", "cd"]}},
        "required": ["id", "tag"],
        "additionalProperties": False,
    }
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema), encoding="utf-8")
    argv = ("generate", "--model", folder, "--prompt", "x ", "--schema", file, "--compare")
    code, found = run_json(capsys, *argv)
    assert code == cli.OK
    assert found["compare"]["identical"]
    [text] = [found["text"]] if "text" in found else found["texts"]
    value = json.loads(text)
    assert set(value) == {"id", "tag"}
    assert value["id"] <= 99
    assert value["tag"] in ("ab", "cd")


@pytest.mark.parametrize("pattern", ["(", r"(a)\1"])
def test_wrong_regex_exits_with_2(
    capsys: pytest.CaptureFixture[str], folder: Path, pattern: str
) -> None:
    code, _, err = run(capsys, "generate", "--model", folder, "--prompt", "x", "--regex", pattern)
    assert code == cli.USAGE
    assert err.startswith("trivium generate: ")


def test_stop_text_is_left_out_while_streaming(folder: Path) -> None:
    loaded = models.load(str(folder))
    runner = loop.Loop(loaded, loop.Settings(stop_strings=("END",)))
    said: list[str] = []
    stream = loop.Stream(runner, said.append)
    for token in loaded.tokenizer("Zürich EN, ENDE")["input_ids"]:
        stream.feed(0, [token])
    assert "".join(said) == "Zürich EN, "  # no half of a character, no beginning of the stop
    stream.close("Zürich EN, ")
    assert "".join(said) == "Zürich EN, "


def test_samples_differ_by_branch(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    argv = ("generate", "--model", folder, "--prompt", "abc", "--max-new-tokens", 12)
    code, found = run_json(capsys, *argv, "--samples", 3, "--dtype", "float64")
    _, alone = run_json(capsys, *argv, "--dtype", "float64")
    assert code == cli.OK
    assert len(set(found["texts"])) == 3
    assert found["texts"][0] == alone["texts"][0]


def test_vote_stops_early(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    argv = ("generate", "--model", folder, "--prompt", "x", "--vote", "number", "--samples", 12)
    code, found = run_json(capsys, *argv, "--regex", "The answer is 7[.]")
    vote = found["vote"]
    assert code == cli.OK
    assert (vote["winner"], vote["share"], vote["stop_reason"]) == ("7", 1.0, "rule:beta:0.95")
    assert vote["samples"] == vote["launched"] == len(found["texts"]) == 4


def test_prompt_from_standard_input_and_from_a_file(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("abcabc", encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO("abcabc"))
    argv = ("generate", "--model", folder, "--max-new-tokens", 5)
    results = [run_json(capsys, *argv)[1], run_json(capsys, *argv, "--prompt-file", file)[1]]
    assert [r["prompt"] for r in results] == ["abcabc", "abcabc"]
    assert results[0]["texts"] == results[1]["texts"]


def test_interrupt_prints_what_there_is(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, fed = loop.Stream.feed, []

    def interrupted(self: loop.Stream, request: int, new: list[int]) -> None:
        feed(self, request, new)
        fed.append(new)
        if len(fed) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Stream, "feed", interrupted)
    argv = ("generate", "--model", folder, "--prompt", "abc", "--max-new-tokens", 500)
    code, out, err = run(capsys, *argv, "--json", "-")
    found = json.loads(out)
    assert code == cli.INTERRUPTED
    assert found["interrupted"] is True
    assert found["finish_reasons"] == ["interrupted"]
    assert found["num_tokens"] >= 3
    assert "interrupted" in err


def test_folder_that_is_no_model_exits_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "generate", "--model", tmp_path, "--prompt", "x")
    assert code == cli.USAGE
    assert "config.json" in err
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    code, _, err = run(capsys, "generate", "--model", tmp_path, "--prompt", "x")
    assert code == cli.USAGE
    assert "cannot be loaded" in err


# ---- demo ---------------------------------------------------------------------------------------


def check_demo(found: dict[str, Any]) -> None:
    for code in (found["code"]["greedy"], found["code"]["sampled"]):
        assert isinstance(code["identical"], bool)
        assert code["identical"] is (code["host_rounding"] + code["bugs"] == 0)
        for name, (low, high) in RANGES.items():
            assert low <= code[name] <= high
    assert found["bugs"] == 0
    assert found["records"]["valid"] == 1
    assert found["records"]["count"] > 0
    votes = found["votes"]
    assert 0 <= votes["single"] <= 1
    assert 0 <= votes["voted"] <= 1
    assert 1 <= votes["mean_samples"] <= votes["mean_launched"] <= votes["budget"]
    assert votes["questions"] > 0
    assert found["environment"]["torch"] == torch.__version__


def test_quick_demo_on_a_random_model(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    where = tmp_path / "demo.json"
    code, out, _ = run(capsys, "demo", "--quick", "--model", folder, "--json", where)
    assert code == cli.OK
    check_demo(json.loads(where.read_text(encoding="utf-8")))
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0] == "trivium demo"
    assert sum("identical" in line and line.endswith("yes") for line in lines) == 2
    assert any(line.endswith("100% of 2") for line in lines)


def test_interrupted_demo_reports_what_it_has(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trivium.cli import demo

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_records", interrupted)
    code, out, err = run(capsys, "demo", "--quick", "--model", folder, "--json", "-")
    found = json.loads(out)
    assert code == cli.INTERRUPTED
    assert found["interrupted"] is True
    assert found["code"].keys() == {"greedy", "sampled"}
    assert "tokens per target call" in err


@pytest.mark.skipif(
    not (tinylm.path("target") / "model.safetensors").is_file(), reason="tinylm is not trained"
)
def test_quick_demo_on_the_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run_json(capsys, "demo", "--quick")
    assert code == cli.OK
    check_demo(found)
