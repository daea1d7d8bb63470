"""Checkers, monitors, PICARD, shadow validation and intersections, against their definitions."""

from __future__ import annotations

import itertools
import json
import time

import numpy as np
import pytest
from trivium import GrammarMask, Speculator, Vocabulary, fill_batch
from trivium.constrained import Asap, Particles, TokenAutomaton, dingo
from trivium.errors import (
    DeadEnd,
    InputError,
    LimitExceeded,
    UnsupportedPattern,
    UnsupportedSchema,
)
from trivium.grammar import Monitor
from trivium.testing import Enumerator

EOS = 4
VOCAB = Vocabulary([b"(", b")", b"a", b"()", b""], eos=[EOS])
BYTES = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])


def balanced(text: bytes, complete: bool) -> bool:
    depth = 0
    for byte in text:
        depth += {40: 1, 41: -1}.get(byte, 0)
        if not 0 <= depth <= 2:
            return False
    return depth == 0 or not complete


def allowed(matcher, width=5):
    row = np.zeros(matcher.words, np.int32)
    matcher.fill(row)
    return {t for t in range(width) if row[t >> 5] >> (t & 31) & 1}


def by_definition(tokens):
    """What may follow under `balanced` and the pattern, one token at a time."""
    text = b"".join(VOCAB.token(t) for t in tokens)
    found = {t for t in range(4) if balanced(text + VOCAB.token(t), False)}
    return found | ({EOS} if balanced(text, True) else set())


@pytest.fixture
def grammar():
    return GrammarMask.checker(balanced, VOCAB)


def test_masks_are_those_of_the_checker(grammar):
    for n in range(5):
        for tokens in itertools.product(range(4), repeat=n):
            m = grammar.matcher()
            good = m.commit(list(tokens))
            assert good == next(
                (i for i in range(n) if tokens[i] not in by_definition(tokens[:i])), n
            )
            if good == n:
                assert allowed(m) == by_definition(tokens)
                assert m.is_accepting() == (EOS in by_definition(tokens))
                assert m.state_id is None


def test_verbs_agree_under_a_checker(grammar):
    m = grammar.matcher()
    assert m.sync([0, 0, 0, 1]) == 2
    assert m.dead_at == 2
    assert m.sync([0, 3]) == 2
    assert m.validate([1, EOS]) == 2
    assert m.validate([1, 1]) == 1
    tree = [-1, 0, 1, 1, 0, 4]
    tokens = [0, 1, 1, 2, 0, 0]
    out = np.zeros((6, 1), np.int32)
    alive = m.fill_tree(tree, tokens, out)
    for node in range(6):
        path, at = [], node
        while at > 0:
            path.insert(0, tokens[at])
            at = tree[at]
        fresh = grammar.matcher()
        reached = fresh.commit([0, 3, *path]) == 2 + len(path)
        assert bool(alive[node]) == reached
        want = allowed(fresh) if reached else set()
        assert {t for t in range(5) if out[node, 0] >> t & 1} == want
    rows = np.zeros((2, 1), np.int32)
    fill_batch([m, m.fork()], rows)
    assert rows[0, 0] == rows[1, 0] != 0
    assert m.commit(1)
    assert m.commit(EOS)
    assert not m.fill(np.zeros(1, np.int32))


def test_a_speculator_keeps_to_the_checker(grammar):
    rng = np.random.default_rng(5)
    law = rng.normal(size=(64, 5))
    texts = []
    for nodes in (1, 8):
        spec = Speculator(5, sources=["suffix"] if nodes > 1 else [], max_nodes=nodes)
        request = spec.start([2], constraint=grammar.matcher(), seed=3)
        tokens = [2]
        while len(tokens) < 40 and tokens[-1] != EOS:
            batch = spec.propose([request])
            rows = np.stack([law[(len(tokens) + d - 1) % 64] for d in batch.depths])
            out = spec.verify(batch, logits=rows.astype(np.float32))
            spec.commit(out)
            tokens += out.tokens.tolist()
        texts.append(tokens[:40])
        text = b"".join(VOCAB.token(t) for t in tokens[1:] if t != EOS)
        assert all(balanced(text[:i], False) for i in range(len(text) + 1))
    assert texts[0] == texts[1]


def test_a_dead_end_says_how_far_to_roll_back():
    # After "a" nothing may follow and the text may not end.
    def check(text: bytes, complete: bool) -> bool:
        return not complete and len(text) < 3 if text.endswith(b"a") else len(text) < 3

    g = GrammarMask.checker(check, VOCAB, grammar=GrammarMask.regex(r"[(]a(x|b)|[(][)]", VOCAB))
    m = g.matcher()
    assert m.commit([0, 2]) == 2
    with pytest.raises(DeadEnd, match="refuses every token") as error:
        m.fill(np.zeros(1, np.int32))
    assert error.value.rollback_to == 1
    m.rollback(len(m) - error.value.rollback_to)
    assert 1 in allowed(m)
    assert not g.report().no_dead_end


def test_what_a_checker_raises_leaves_the_matcher():
    def check(text: bytes, complete: bool) -> bool:
        if text.endswith(b"a"):
            raise ValueError("no idea")
        return True

    m = GrammarMask.checker(check, VOCAB).matcher()
    assert m.commit(0)
    with pytest.raises(InputError, match="no idea"):
        m.commit(2)
    assert len(m) == 1


def test_tests_of_a_mask_are_bounded(grammar):
    few = GrammarMask.checker(balanced, VOCAB, max_tests=2).matcher()
    with pytest.raises(LimitExceeded, match="max_tests"):
        few.fill(np.zeros(1, np.int32))
    logits = np.array([0.0, 5.0, 3.0, 1.0, 4.0])
    assert few.apply_top(logits, 2) == [4, 2]
    assert logits.tolist() == [-np.inf, -np.inf, 3.0, -np.inf, 4.0]
    with pytest.raises(UnsupportedPattern, match="checker"):
        _ = grammar | grammar


def test_what_begins_with_a_refused_token_is_not_tested():
    asked = []

    def check(text: bytes, complete: bool) -> bool:
        asked.append((text, complete))
        return not text.startswith(b"(")

    m = GrammarMask.checker(check, VOCAB).matcher()
    assert allowed(m) == {1, 2, EOS}
    assert sorted(asked) == [(b"", True), (b"(", False), (b")", False), (b"a", False)]
    # Equal tokens are one question.
    twins = Vocabulary([b"a", b"a", b"ab", b""], eos=[3])
    asked.clear()
    assert allowed(GrammarMask.checker(check, twins).matcher()) == {0, 1, 2, 3}
    assert sorted(asked) == [(b"", True), (b"a", False), (b"ab", False)]


def test_picard_keeps_the_best_allowed_and_stops_in_time(grammar):
    rng = np.random.default_rng(0)
    for _ in range(20):
        m = grammar.matcher()
        m.commit([0])
        row = rng.normal(size=5)
        want = sorted(by_definition([0]), key=lambda t: -row[t])
        assert m.apply_top(row.copy(), 2) == want[:2]
        assert m.apply_top(row.copy(), 9) == want

    def slow(text: bytes, complete: bool) -> bool:
        time.sleep(0.02)
        return len(text) == 1

    m = GrammarMask.checker(slow, VOCAB).matcher()
    assert len(m.apply_top(np.zeros(5), 4, timeout=0.01)) == 1
    m = GrammarMask.checker(lambda text, complete: False, VOCAB).matcher()
    with pytest.raises(DeadEnd):
        m.apply_top(np.zeros(5), 1)


# ---- monitors ------------------------------------------------------------------------------------

MEMBERS = {"x.": ["append", "apply", "pop"], "y.": [], "x.pop.": None}
CODE = Vocabulary([b"x.", b"y", b".", b"app", b"end", b"ly", b"pop", b"(", b"x.po", b"p;", b""],
                  eos=[10])  # fmt: skip


def legal(text: str, complete: bool) -> bool:
    """A text is legal if each word behind a dot is a member, the last one a beginning of one."""
    at = 0
    while (dot := text.find(".", at)) >= 0:
        end = dot + 1
        while end < len(text) and (text[end].isalnum() or text[end] == "_"):
            end += 1
        members = MEMBERS.get(text[: dot + 1])
        word = text[dot + 1 : end]
        if members is not None:
            open_word = end == len(text) and not complete
            if not (any(m.startswith(word) for m in members) if open_word else word in members):
                return False
        at = dot + 1
    return True


def test_monitors_allow_the_members_and_what_follows_them():
    monitor = Monitor(".", MEMBERS.get)
    g = GrammarMask.checker(monitor, CODE)
    todo = [()]
    checked = 0
    while todo:
        tokens = todo.pop()
        text = CODE.decode(list(tokens)).decode()
        m = g.matcher()
        assert m.commit(list(tokens)) == len(tokens)
        follow = {t for t in range(10) if legal(text + CODE.token(t).decode(), False)}
        if not follow and not legal(text, True):
            with pytest.raises(DeadEnd):
                allowed(m, 11)
            continue
        assert allowed(m, 11) == follow | ({10} if legal(text, True) else set())
        checked += 1
        if len(tokens) < 3:
            todo += [(*tokens, t) for t in follow]
    assert checked > 50


def test_a_monitor_that_is_late_is_off_for_its_phase():
    def slow(text: str):
        time.sleep(0.3)
        return ["never"]

    monitor = Monitor(".", slow, timeout=0.01)
    m = GrammarMask.checker(monitor, CODE).matcher()
    assert m.commit([0, 3]) == 2
    assert monitor.timeouts == 1
    with pytest.raises(InputError):
        Monitor("", slow)
    with pytest.raises(InputError):
        Monitor(".", None)


# ---- intersections -------------------------------------------------------------------------------


def test_two_languages_side_by_side_mask_what_both_do():
    rules = 'root ::= "(" root ")" root | "a" | ""'
    sides = [GrammarMask.grammar(rules, VOCAB), GrammarMask.regex(r"([(a][)a]?)*", VOCAB)]
    with pytest.raises(UnsupportedPattern):
        _ = sides[0] & sides[1]
    both = sides[0].intersect(sides[1], on_unsupported="shadow")
    assert not both.report().no_dead_end
    assert both.report().sound
    for n in range(6):
        for tokens in itertools.product(range(4), repeat=n):
            a, b, m = (g.matcher() for g in (*sides, both))
            good = m.commit(list(tokens))
            assert good == min(a.commit(list(tokens)), b.commit(list(tokens)))
            if good == n:
                assert allowed(m) == allowed(a) & allowed(b)
                assert m.is_accepting() == (a.is_accepting() and b.is_accepting())
    text = b"(a)()"
    assert both.matches(text) == (sides[0].matches(text) and sides[1].matches(text))
    regular = GrammarMask.regex("a*", BYTES).intersect(GrammarMask.regex("..", BYTES))
    assert regular.report().no_dead_end
    with pytest.raises(InputError):
        sides[0].intersect(sides[1], on_unsupported="maybe")


def test_automata_of_intersections_leave_dead_ends_out():
    # "a(" is begun by both sides and gone on with differently.
    rules = GrammarMask.grammar('root ::= "a" root "a" | "a(" | "("', VOCAB)
    both = rules.intersect(GrammarMask.regex(r"a\(\)|\(", VOCAB), on_unsupported="shadow")
    m = both.matcher()
    assert m.commit([2, 0]) == 2
    assert allowed(m) == set()
    auto = TokenAutomaton.from_grammar(both)
    block = dingo(auto, np.log([[0.2, 0.1, 0.6, 0.05, 0.05]] * 2), final=True)
    assert block.tokens.tolist() == [0, EOS]


def outcomes(run):
    """Every outcome of a procedure, with its probability."""
    rng = Enumerator()
    while True:
        rng.begin()
        result = run(rng)
        yield rng.probability, result
        if not rng.advance():
            return


def test_samplers_give_dead_ends_weight_zero():
    # "a" may be begun and nothing completes it; "(" and "()" are the language.
    g = GrammarMask.checker(lambda text, complete: not complete or b"a" not in text,
                            grammar=GrammarMask.choices(["a", "()"], VOCAB))  # fmt: skip
    row = np.log([0.3, 0.2, 0.25, 0.15, 0.1])
    # ( ) end; () end
    mass = 0.3 * 0.2 * 0.1 + 0.15 * 0.1

    def particles(rng):
        texts = Particles(g, 2, rng=rng)
        while not texts.done:
            texts.step(np.tile(row, (2, 1)))
        return np.exp(texts.log_evidence)

    assert sum(p * w for p, w in outcomes(particles)) == pytest.approx(mass)

    def walk(rng):
        sample = Asap(g).walk(rng=rng)
        while not sample.done:
            sample.step(row)
        return np.exp(sample.log_weight) * sample.finished

    assert sum(p * w for p, w in outcomes(walk)) == pytest.approx(mass)


# ---- shadow validation ---------------------------------------------------------------------------

# More counted conditions than the machine keeps.
MANY = {
    "type": "array",
    "items": {"type": "integer"},
    "maxItems": 11,
    "allOf": [{"contains": {"const": n}} for n in range(10)],
}


def test_what_is_not_compiled_is_validated_where_a_value_ends():
    schema = {"type": "object", "properties": {"v": MANY}, "required": ["v"]}
    try:
        GrammarMask.json_schema(schema, BYTES)
        pytest.skip("the machine takes it by now")
    except UnsupportedSchema:
        pass
    g = GrammarMask.json_schema(schema, BYTES, on_unsupported="shadow")
    report = g.report()
    assert report.sound
    assert not report.no_dead_end
    assert any("shadow-validated" in w and "contains" in w for w in report.warnings)
    good = json.dumps({"v": list(range(10))})
    bad = json.dumps({"v": list(range(9))})
    assert g.matches(good)
    assert not g.matches(bad)
    m = g.matcher()
    assert m.commit(list(bad[:-1].encode())) == len(bad) - 1
    assert not m.allows(ord("}"))
    assert allowed(m, 257) - {256} == allowed(m, 257)
    assert ord(",") in allowed(m, 257)  # another member, which may not help
    relaxed = GrammarMask.json_schema(MANY, BYTES, on_unsupported="shadow").matcher()
    assert relaxed.commit(list(b"[0, 1]")) == 5
    assert ord(",") in allowed(relaxed, 257)


def test_shadow_refuses_what_it_cannot_validate_either():
    schema = {"type": "string", "pattern": r"^(.*)\1$"}
    with pytest.raises(UnsupportedSchema):
        GrammarMask.json_schema(schema, BYTES)
    with pytest.raises(UnsupportedSchema):
        GrammarMask.json_schema(schema, BYTES, on_unsupported="shadow")
    plain = GrammarMask.json_schema({"type": "integer"}, BYTES, on_unsupported="shadow")
    assert plain.report().no_dead_end
    with pytest.raises(InputError):
        GrammarMask.json_schema({}, BYTES, on_unsupported="whatever")
