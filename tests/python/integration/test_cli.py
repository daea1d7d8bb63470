"""The command line: exit codes, JSON, plain output. What needs a model is in test_cli_model.py."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trivium
from trivium import GrammarMask, Vocabulary, cli, errors, tinylm
from trivium.cli import extras, output, progress, records, selftest
from trivium.cli.mask_engines import PEERS

if TYPE_CHECKING:
    from pathlib import Path

BYTES = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(list(argv))
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trivium", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"trivium {trivium.__version__}\n")


def test_parser_loads_no_stack() -> None:
    code = (
        "import sys; from trivium import cli; cli.build_parser(); cli.main(['doctor', '--quiet']);"
        "print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "argv", [(), ("sing",), ("doctor", "--loud"), ("generate", "--samples", "many"), ("vote",)]
)
def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    code, out, err = run(capsys, *argv)
    assert code == cli.USAGE
    assert not out
    assert "usage: trivium" in err


@pytest.mark.parametrize("verb", ["generate", "demo", "doctor"])
def test_every_verb_has_the_common_options(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == cli.OK
    for option in ("--json PATH", "--seed SEED", "--quiet"):
        assert option in out


def test_doctor_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "doctor", "--json", "-")
    assert code == cli.OK
    found = json.loads(out)
    assert found["versions"]["trivium"] == trivium.__version__
    assert found["ok"] is True
    assert {t["name"]: t["ok"] for t in found["self_tests"]} == dict.fromkeys(selftest.TESTS, True)
    assert set(found["extras"]) == set(extras.EXTRAS)
    assert found["gpu"].keys() == {
        "driver_version",
        "devices",
        "why_not",
        "loads",
        "kernels_target",
    }
    assert found["cpu"]["usable"] >= 1
    assert "self-tests" in err  # text for people moves out of the way of the JSON


def test_doctor_quiet_prints_the_self_tests_only(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--quiet")
    assert code == cli.OK
    assert out.startswith("self-tests")


def test_doctor_fails_with_a_self_test(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise errors.InternalError("2 is not 3")

    monkeypatch.setitem(selftest.TESTS, "noise", broken)
    code, out, _ = run(capsys, "doctor", "--json", "-")
    assert code == cli.FAILED
    [failed] = [t for t in json.loads(out)["self_tests"] if not t["ok"]]
    assert (failed["name"], failed["detail"]) == ("noise", "InternalError: 2 is not 3")


def test_philox_golden_values() -> None:
    assert selftest.philox(42, 1, 7, 1, 0)[1] == 2747578971


def test_missing_extra_exits_with_3_and_the_install_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "missing", lambda extra: ["torch"] if extra != "report" else [])
    for verb, extra in (("generate", "transformers"), ("demo", "demo")):
        argv = [verb, "--prompt", "x"] if verb == "generate" else [verb]
        code, _, err = run(capsys, *argv)
        assert code == cli.MISSING_EXTRA
        assert f"    pip install 'trivium[{extra}]'\n" in err


def test_extras_are_those_of_the_distribution() -> None:
    from importlib.metadata import metadata

    assert set(extras.EXTRAS) == set(metadata("trivium").get_all("Provides-Extra"))


@pytest.mark.parametrize(
    ("option", "what"), [("--schema", "cannot be read"), ("--grammar", "grammar")]
)
def test_constraints_that_cannot_be_read_are_refused(
    capsys: pytest.CaptureFixture[str], option: str, what: str
) -> None:
    code, _, err = run(capsys, "generate", "--prompt", "x", option, "file")
    assert code == cli.USAGE
    assert what in err


@pytest.mark.parametrize(
    "argv",
    [
        ("--model", "/no/such/folder"),
        ("--samples", "0"),
        ("--max-new-tokens", "0"),
        ("--threads", "0"),
        ("--prompt-file", "/no/such/file"),
        ("--json", "/no/such/folder/out.json"),
        ("--seed", "-1"),
        ("--samples", "3", "--compare"),
    ],
)
def test_wrong_values_exit_with_2(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    prompt = () if "--prompt-file" in argv else ("--prompt", "x")
    code, out, err = run(capsys, "generate", *prompt, *argv)
    assert code == cli.USAGE
    assert not out
    assert err.startswith("trivium generate: ")


def test_interrupt_exits_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> list[selftest.SelfTest]:
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "run", interrupted)
    code, _, err = run(capsys, "doctor")
    assert code == cli.INTERRUPTED
    assert "interrupted" in err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "env", "fancy"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_needs_a_terminal_that_wants_it(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, env: dict[str, str], fancy: bool
) -> None:
    pytest.importorskip("rich")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert output.is_fancy(stream) is fancy
    monkeypatch.setattr(sys, "stdout", stream)
    args = SimpleNamespace(quiet=False, json=None, seed=0)
    output.Output(args).table("title", ("a", "b"), [("[x]", 1)])
    text = stream.getvalue()
    assert "[x]" in text  # no markup in cells
    assert ("\x1b" in text or "┃" in text) is fancy


def test_progress_waits_two_seconds_and_prints_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for quiet in (False, True):
        now[0] = 0.0
        with progress.Progress("job", 10, quiet=quiet) as bar:
            for _ in range(10):
                now[0] += 1.0
                bar.step(note="busy")
        lines = capsys.readouterr().err.splitlines()
        assert lines == ([] if quiet else ["job: 2/10, 2 s, busy", "job: 7/10, 7 s, busy"])


@pytest.mark.parametrize("case", tinylm.prompts("records"), ids=lambda case: case["id"])
def test_record_schemas_accept_the_references(case: dict) -> None:
    text = case["reference"].strip()
    schema = records.bounded(case["schema"])
    assert GrammarMask.json_schema(schema, BYTES, whitespace="compact").matches(text)
    assert records.is_valid(text, case["schema"])


@pytest.mark.parametrize(
    "text", ["", "{}", "null", '{"name":"A","age":17,"city":"B","country":"C"}', "[1"]
)
def test_record_check_refuses(text: str) -> None:
    schema = next(c["schema"] for c in tinylm.prompts("records") if c["kind"] == "person")
    assert not records.is_valid(text, schema)


def test_mask_check_says_where_a_text_breaks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"enum": [1, "x"]}}')
    argv = ("mask", "check", "--schema", str(schema), "--explain", "--json", "-", "--text")
    code, out, _ = run(capsys, *argv, '[1, "y"]')
    found = json.loads(out)
    assert code == cli.FAILED
    [verdict] = found["texts"]
    assert (verdict["valid"], verdict["at"]) == (False, 5)
    assert verdict["next"] == ["x"]
    assert json.loads(verdict["completion"])[:2] == [1, "x"]
    assert found["sound"]
    code, out, _ = run(capsys, *argv, '[1, "x"]')
    assert (code, json.loads(out)["texts"][0]["valid"]) == (cli.OK, True)
    code, _, err = run(capsys, "mask", "check", "--schema", str(tmp_path / "none"))
    assert (code, "cannot be read" in err) == (cli.USAGE, True)


def test_mask_check_reads_rules_patterns_and_token_streams(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rules = tmp_path / "rules.lark"
    rules.write_text('start: "(" start ")" | "a"')
    argv = ("mask", "check", "--grammar", str(rules), "--json", "-")
    code, out, _ = run(capsys, *argv, "--tokens", "40 97 41 256", "--tokens", "40,97,97")
    good, bad = json.loads(out)["texts"]
    assert (code, good["valid"], bad["valid"], bad["at"]) == (cli.FAILED, True, False, 2)
    assert "token 97 b'a' is refused at its byte 0" in bad["why"]
    code, _, err = run(capsys, *argv, "--syntax", "gbnf")
    assert (code, "line 1" in err) == (cli.USAGE, True)
    code, out, _ = run(capsys, "mask", "check", "--regex", "a+", "--text", "aa", "--quiet")
    assert (code, out.split()) == (cli.OK, ["valid", "aa"])
    code, _, err = run(capsys, "mask", "check", "--regex", "a+", "--tokens", "x")
    assert (code, "no list of ids" in err) == (cli.USAGE, True)


def test_mask_check_names_what_is_validated_and_what_is_dropped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    schema = tmp_path / "schema.json"
    counted = [{"contains": {"const": n}} for n in range(10)]
    schema.write_text(json.dumps({"type": "array", "maxItems": 12, "allOf": counted}))
    text = json.dumps(list(range(9)))
    argv = ("mask", "check", "--schema", str(schema), "--text", text, "--explain", "--json", "-")
    code, _, err = run(capsys, *argv)
    assert (code, "contains" in err) == (cli.USAGE, True)
    code, out, _ = run(capsys, *argv, "--on-unsupported", "shadow")
    found = json.loads(out)
    assert (code, found["sound"], found["no_dead_end"]) == (cli.FAILED, True, False)
    assert any("contains" in w for w in found["warnings"])


def test_mask_bench_counts_verdicts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    corpus = tmp_path / "cases.jsonl"
    case = {
        "schema": {"type": "integer", "minimum": 3},
        "tests": [{"data": 5, "valid": True}, {"data": 1, "valid": False}],
    }
    unknown = {"schema": {"$ref": "http://example.com/x"}, "tests": []}
    corpus.write_text(json.dumps(case) + "\n" + json.dumps(unknown) + "\n")
    code, out, _ = run(capsys, "mask", "bench", "--corpus", str(corpus), "--json", "-")
    found = json.loads(out)
    assert code == cli.OK
    assert (found["schemas"], found["wrong_verdicts"], len(found["refused"])) == (2, 0, 1)
    assert found["masks"] == 2
    argv = ("mask", "bench", "--corpus", str(corpus), "--against")
    code, _, err = run(capsys, *argv, "nothing")
    assert (code, "not one of" in err) == (cli.USAGE, True)
    for name in PEERS:
        code, out, err = run(capsys, *argv, name, "--json", "-")
        if importlib.util.find_spec(name) is None:
            assert (code, f"pip install {name}" in err) == (cli.MISSING_EXTRA, True)
        else:
            assert json.loads(out)["peers"][name]["masks"] > 0
