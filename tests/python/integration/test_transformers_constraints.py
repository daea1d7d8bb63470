"""Constraints with speculation on the model that ships: the text stays, target calls are saved."""

from __future__ import annotations

import json

import pytest
from trivium import GrammarMask, Speculator, tinylm
from trivium.cli import loop, models, records
from trivium.integrations.transformers import generate

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def loaded():
    before = torch.get_num_threads()
    yield models.load(None, "float64", threads=1)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vocab(loaded):
    return loop.vocabulary(loaded)


def run(loaded, prompt, grammar, speculator, temperature):
    return generate(
        loaded.model,
        [loaded.tokenizer(prompt)["input_ids"]],
        speculator=speculator,
        constraint=grammar,
        tokenizer=loaded.tokenizer,
        temperature=temperature,
        seed=3,
        max_new_tokens=60,
    )


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_forced_text_is_drafted_and_the_text_is_that_of_the_plain_loop(loaded, vocab, temperature):
    case = tinylm.prompts("records")[0]
    schema = records.bounded(case["schema"])
    grammar = GrammarMask.json_schema(schema, vocab, whitespace="compact")
    plain = run(loaded, case["prompt"], grammar, None, temperature)
    for sources in ([], ["suffix", "recycle"]):
        width = vocab.num_rows
        spec = Speculator(width, sources=sources, max_nodes=12, policy="full")
        fast = run(loaded, case["prompt"], grammar, spec, temperature)
        assert fast.new_tokens == plain.new_tokens
        assert fast.finish_reasons == plain.finish_reasons
        forced = fast.stats["sources"]["constraint"]
        assert forced["tried"] >= forced["accepted"] > 0
        # Every accepted draft is a target call less; without sources all drafts are forced text.
        assert fast.num_target_calls < plain.num_target_calls
        if not sources:
            saved = plain.num_target_calls - fast.num_target_calls
            assert saved == forced["accepted"]
    if plain.finish_reasons == ["eos"]:
        assert records.is_valid(plain.texts[0], case["schema"])


def test_rules_constrain_with_and_without_drafts(loaded, vocab):
    rules = """root ::= "total = " sum ";\\n" "return total;\\n"   sum ::= term | sum " + " term
               term ::= [a-z]{1,3} | "(" sum ")" """
    grammar = GrammarMask.grammar(rules.replace("   sum", "\n sum"), vocab)
    plain = run(loaded, "def f(a, b):\n", grammar, None, 1.0)
    spec = Speculator(vocab.num_rows, sources=[], max_nodes=12, policy="full")
    fast = run(loaded, "def f(a, b):\n", grammar, spec, 1.0)
    assert fast.new_tokens == plain.new_tokens
    assert fast.num_target_calls < plain.num_target_calls
    if plain.finish_reasons == ["eos"]:
        assert grammar.matches(plain.texts[0])


def test_a_constraint_that_forces_nothing_drafts_nothing(loaded, vocab):
    grammar = GrammarMask.regex("[a-z ]+", vocab)
    spec = Speculator(vocab.num_rows, sources=[], max_nodes=12, policy="full")
    out = run(loaded, "the ", grammar, spec, 1.0)
    assert "constraint" not in out.stats["sources"]
    assert out.num_target_calls == len(out.new_tokens[0])


def test_the_command_line_says_how_many_calls_are_saved(capsys, tmp_path):
    from trivium import cli

    rules = tmp_path / "rules.gbnf"
    rules.write_text('root ::= "The answer to the question is: " [0-9]+ "\\n"')
    argv = [
        "generate",
        "--prompt",
        "Q: 1+1?\n",
        "--grammar",
        str(rules),
        "--compare",
        "--json",
        "-",
    ]
    code = cli.main([*argv, "--max-new-tokens", "24", "--dtype", "float64", "--temperature", "0"])
    found = json.loads(capsys.readouterr().out)["compare"]
    assert (code, found["identical"]) == (0, True)
    assert found["target_calls"] <= found["plain_target_calls"]
