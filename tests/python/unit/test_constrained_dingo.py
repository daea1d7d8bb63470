"""DINGO against all strings of a block, for maxima and for exact draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from trivium import GrammarMask, Vocabulary
from trivium.constrained import TokenAutomaton, dingo, dingo_sample
from trivium.errors import DeadEnd, InputError, LimitExceeded, TokenError
from trivium.testing import Enumerator

MASK = -1


def random_case(rng, states, tokens, depth, *, masked):
    """A partial automaton with at least one text, and a law with some zeros."""
    while True:
        moves = rng.integers(-1, states, (states, tokens))
        try:
            auto = TokenAutomaton(moves, 0, rng.random(states) < 0.5)
        except InputError:
            continue
        law = rng.dirichlet([0.5] * (tokens + masked), depth)
        law[rng.random(law.shape) < 0.1] = 0.0
        if (law.sum(axis=1) > 0.0).all():
            return auto, moves, law / law.sum(axis=1, keepdims=True)


def live_states(moves, accepting):
    """Those with an accepting state ahead, by walking from each."""
    live = set()
    for state in range(len(moves)):
        seen, todo = {state}, [state]
        while todo:
            for after in moves[todo.pop()]:
                if after >= 0 and after not in seen:
                    seen.add(after)
                    todo.append(after)
        if any(accepting[q] for q in seen):
            live.add(state)
    return live


def after(moves, live, states, token):
    columns = range(moves.shape[1]) if token == MASK else [token]
    return frozenset(int(moves[q, t]) for q in states for t in columns) & live


def every_string(auto, moves, law, starts, *, masked, final):
    """Probability and end states of each allowed string, by definition."""
    live = live_states(moves, auto.accepting)
    found = {}
    tokens = [*range(moves.shape[1]), *([MASK] if masked else [])]
    for string in itertools.product(tokens, repeat=len(law)):
        p, states = 1.0, frozenset(starts)
        for i, t in enumerate(string):
            p *= law[i, t]  # column -1 is that of the mask
            states = after(moves, live, states, t)
            if p == 0.0 or not states:
                break
        good = any(auto.accepting[q] for q in states) if final else bool(states)
        if p > 0.0 and good:
            found[string] = (p, states)
    return found


def arguments(law, masked):
    with np.errstate(divide="ignore"):
        logs = np.log(law)
    return (logs[:, :-1], logs[:, -1]) if masked else (logs, None)


SHAPES = [(1, 3, 2), (2, 2, 4), (3, 4, 3), (4, 3, 4), (4, 6, 3)]
CASES = [
    (shape, masked, final, seed)
    for shape in SHAPES
    for masked in (False, True)
    for final in (False, True)
    for seed in range(5)
] + [((4, 6, 5), False, True, 0), ((3, 5, 5), True, False, 1), ((3, 6, 5), True, True, 2)]


@pytest.mark.parametrize(("shape", "masked", "final", "seed"), CASES)
def test_the_best_block_and_the_mass_are_those_of_all_strings(shape, masked, final, seed):
    rng = np.random.default_rng([seed, *shape, masked, final])
    auto, moves, law = random_case(rng, *shape, masked=masked)
    live = sorted(live_states(moves, auto.accepting))
    starts = rng.choice(live, rng.integers(1, len(live) + 1), replace=False)
    logits, mask_logits = arguments(law, masked)
    options = {"mask_logits": mask_logits, "starts": starts, "final": final}
    found = every_string(auto, moves, law, starts, masked=masked, final=final)
    if not found:
        with pytest.raises(DeadEnd):
            dingo(auto, logits, **options)
        with pytest.raises(DeadEnd):
            dingo_sample(auto, logits, rng=0, **options)
        return
    best = dingo(auto, logits, **options)
    p, states = found[tuple(best.tokens.tolist())]
    assert p == pytest.approx(max(q for q, _ in found.values()), rel=1e-12)
    assert best.log_prob == pytest.approx(math.log(p), abs=1e-12)
    assert best.states == tuple(sorted(states))
    drawn = dingo_sample(auto, logits, rng=seed, **options)
    p, states = found[tuple(drawn.tokens.tolist())]
    assert drawn.log_prob == pytest.approx(math.log(p), abs=1e-12)
    assert drawn.states == tuple(sorted(states))
    mass = sum(q for q, _ in found.values())
    assert drawn.log_mass == pytest.approx(math.log(mass), abs=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_draws_have_the_exact_law_by_enumeration(masked, final, seed):
    rng = np.random.default_rng([9, seed])
    auto, moves, law = random_case(rng, 3, 3, 3, masked=masked)
    logits, mask_logits = arguments(law, masked)
    live = sorted(live_states(moves, auto.accepting))
    found = every_string(auto, moves, law, live, masked=masked, final=final)
    if not found:
        pytest.fail("choose another seed: nothing to draw")
    mass = sum(q for q, _ in found.values())
    chance, drawn = Enumerator(), {}
    while True:
        chance.begin()
        block = dingo_sample(
            auto, logits, rng=chance, mask_logits=mask_logits, starts=live, final=final
        )
        key = tuple(block.tokens.tolist())
        drawn[key] = drawn.get(key, 0.0) + chance.probability
        if not chance.advance():
            break
    assert drawn.keys() == found.keys()
    for key, (p, _) in found.items():
        assert drawn[key] == pytest.approx(p / mass, abs=1e-12)


def test_a_string_with_several_paths_counts_once():
    """Both states of a*b* stay possible behind a masked position; paths would add up to more."""
    auto = TokenAutomaton([[0, 1], [-1, 1]], 0, [True, True])
    law = np.full((3, 3), 1 / 3)
    found = every_string(auto, np.array([[0, 1], [-1, 1]]), law, [0], masked=True, final=False)
    drawn = dingo_sample(auto, np.zeros((3, 2)), rng=0, mask_logits=np.zeros(3))
    assert math.exp(drawn.log_mass) == pytest.approx(len(found) / 27, abs=1e-12)
    assert len(found) < 27


VOCAB = Vocabulary([b"a", b"b", b"ab", b"", b"<s>"], eos=[3], special={4: "<s>"})


def texts(auto, depth, *, final):
    """Strings of tokens that the automaton allows."""
    found = set()
    for string in itertools.product(range(auto.num_tokens), repeat=depth):
        state = auto.start
        for t in string:
            state = auto.table[state, auto.classes[t]] if state >= 0 else -1
        if state >= 0 and (auto.accepting[state] or not final):
            found.add(string)
    return found


def test_lifted_automata_allow_what_the_grammar_allows():
    byte_moves = np.full((3, 256), -1)
    byte_moves[0, [ord("a"), ord("b")]] = [0, 1]
    byte_moves[1, ord("b")] = 1
    byte_moves[0, ord("c")] = 2  # a state without a completion
    lifted = TokenAutomaton.from_dfa(byte_moves, 0, np.array([False, True, False]), VOCAB)
    grammar = GrammarMask.regex("a*b+", VOCAB)
    for depth in (1, 2, 3, 4):
        unrolled = TokenAutomaton.from_grammar(grammar, depth)
        for final in (False, True):
            wanted = set()
            for string in itertools.product(range(VOCAB.num_rows), repeat=depth):
                m = grammar.matcher()
                # Behind the end of sequence a block is filled with end ids.
                body = string[: string.index(3) + 1] if 3 in string else string
                pads = set(string[len(body) :]) <= {3}
                if m.commit(list(body)) == len(body) and pads and (m.is_accepting() or not final):
                    wanted.add(string)
            assert texts(lifted, depth, final=final) == wanted
            assert texts(unrolled, depth, final=final) == wanted


def test_unrolling_continues_a_text_and_serves_context_free_grammars():
    vocab = Vocabulary([b"(", b")", b"()", b""], eos=[3])
    grammar = GrammarMask.grammar('root ::= "(" root ")" root | ""', vocab)
    auto = TokenAutomaton.from_grammar(grammar, 3, after=[0, 0])
    wanted = {
        s
        for s in itertools.product(range(3), repeat=3)
        if grammar.matcher().validate([0, 0, *s]) == 5
    }
    assert {s for s in texts(auto, 3, final=False) if 3 not in s} == wanted
    block = dingo(auto, np.tile([5.0, 0.0, 4.0, 0.0], (3, 1)), final=True)
    assert vocab.decode(block.tokens[block.tokens != 3]) in (b"))", b"()))", b"))()", b")())")


def test_misuse_is_refused():
    auto = TokenAutomaton([[0, 1], [-1, 1]], 0, [True, True])
    good = np.zeros((2, 2))
    for bad in (np.zeros(2), np.zeros((2, 3)), np.full((2, 2), np.nan), np.zeros((0, 2))):
        with pytest.raises(InputError):
            dingo(auto, bad)
    for options in ({"mask_logits": [0.0]}, {"starts": []}, {"starts": [2]}):
        with pytest.raises(InputError):
            dingo(auto, good, **options)
        with pytest.raises(InputError):
            dingo_sample(auto, good, rng=0, **options)
    with pytest.raises(InputError):
        dingo("automaton", good)
    with pytest.raises(LimitExceeded):
        dingo_sample(auto, good, rng=0, mask_logits=np.zeros(2), max_sets=1)
    for moves, start, ends in [
        ([[0.5]], 0, [True]),
        ([[2]], 0, [True]),
        ([[0]], 1, [True]),
        ([[0]], 0, [False]),
        ([[0]], 0, [1]),
        ([0], 0, [True]),
    ]:
        with pytest.raises(InputError):
            TokenAutomaton(moves, start, ends)
    assert TokenAutomaton.from_grammar(GrammarMask.regex("[ab]*", VOCAB), 5).num_states == 2
    with pytest.raises(LimitExceeded):
        TokenAutomaton.from_grammar(GrammarMask.regex("[ab]{30}", VOCAB), 15, max_states=10)
    with pytest.raises(TokenError):
        TokenAutomaton.from_grammar(GrammarMask.regex("a", VOCAB), 1, after=[1])
    with pytest.raises(InputError):
        TokenAutomaton.from_dfa([[0]], 0, [True], VOCAB)
    with pytest.raises(LimitExceeded):
        TokenAutomaton.from_dfa(np.zeros((1, 256), int), 0, [True], VOCAB, max_bytes=8)
