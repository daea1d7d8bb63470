"""Front ends of `Vocabulary.from_tokenizer`: foreign tokenizer objects become bytes per id.

Objects are told apart by the methods they have, so none of their packages is imported here and a
wrapper that forwards the methods is served like the original. Whether a vocabulary is byte-level,
byte-fallback or word-piece is read from the tokenizer's own decoder, pre-tokenizer and model, never
guessed from names or from how tokens look.

One rule defines "the bytes of a token": what the tokenizer's decoder adds to a text when the token
follows another one. Where that depends on more than the token itself, there are no exact bytes, and
the tokenizer is refused.
"""

from __future__ import annotations

from typing import Any

from trivium._tokenizers import huggingface, sentencepiece_model, slow, tiktoken_encoding
from trivium._tokenizers.parts import Parts
from trivium.errors import InputError

__all__ = ["Parts", "read"]


def read(tok: Any) -> Parts:
    """Take a tokenizer object apart.

    Raises
    ------
    InputError
        For an object that is none of the served kinds.
    UnsupportedError
        For a tokenizer whose tokens have no exact bytes.
    """
    if hasattr(tok, "backend_tokenizer"):
        return huggingface.read_fast(tok)
    if hasattr(tok, "to_str") and hasattr(tok, "get_vocab"):
        return huggingface.read(tok)
    if hasattr(tok, "decode_single_token_bytes"):
        return tiktoken_encoding.read(tok)
    if hasattr(tok, "id_to_piece") and hasattr(tok, "is_byte"):
        return sentencepiece_model.read(tok)
    if hasattr(tok, "convert_ids_to_tokens"):
        return slow.read(tok)
    kind = f"{type(tok).__module__}.{type(tok).__qualname__}"
    raise InputError(
        f"tok: a {kind} is no tokenizer of transformers, tokenizers, tiktoken or sentencepiece; "
        "give the bytes of each id to Vocabulary(tokens, eos=...)"
    )
