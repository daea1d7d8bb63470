"""`tiktoken.Encoding`: ids are bytes already."""

from __future__ import annotations

from typing import Any

from trivium._tokenizers.parts import Parts

__all__ = ["read"]


def read(tok: Any) -> Parts:
    """Take apart an encoding. Ids that it skips are holes; its end id is ``eot_token``, if any."""
    special = {int(tok.encode_single_token(name)): str(name) for name in tok.special_tokens_set}
    parts = Parts(special=special)
    for token in range(tok.n_vocab):
        if token in special:
            continue
        try:
            parts.tokens[token] = tok.decode_single_token_bytes(token)
        except KeyError:
            continue
    try:
        parts.eos = [int(tok.eot_token)]
    except KeyError:
        parts.eos = []
    return parts
