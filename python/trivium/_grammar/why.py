"""Why a token is refused: where it leaves the language and what could stand there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trivium._grammar.report import Refusal

if TYPE_CHECKING:
    from trivium._grammar.compiled import Compiled
    from trivium._grammar.matcher import Matcher

__all__ = ["refusal_of"]


def refusal_of(matcher: Matcher, grammar: Compiled, token: int) -> Refusal:
    """See `Matcher.why`."""
    vocab = grammar.vocab
    if matcher.allows(token):
        return Refusal(token, vocab.token(token), True, "", 0, [], False)

    def because(cause: str, text: bytes = b"", at: int = 0) -> Refusal:
        return Refusal(token, text, False, cause, at, [], False)

    if matcher.is_finished():
        return because("an end-of-sequence token was committed; nothing may follow")
    if matcher.dead_at is not None:
        return because(f"the matcher is dead since token {matcher.dead_at}")
    if token >= len(vocab):
        return because("the row is padding beyond the vocabulary")
    before = vocab.decode(matcher._text_tokens())
    # Texts with special tokens have no bytes to explain from.
    plain = not any(t in vocab.special for t in matcher._text_tokens().tolist())
    if token in vocab.eos:
        if not plain:
            return because("the text may not end here")
        found = grammar.explain(before)
        return Refusal(token, b"", False, "the text may not end here", 0, found.next_bytes, False)
    text = vocab.token(token)
    if not text:
        return because("a special token or padding, which the grammar does not name here")
    if not plain:
        return because("the grammar does not go on so", text)
    found = grammar.explain(before + text)
    at = found.accepted - len(before)
    if at >= len(text):
        return because("the checker refuses the text", text, len(text))
    return Refusal(
        token, text, False, "the grammar does not go on so", at, found.next_bytes, found.accepting
    )
