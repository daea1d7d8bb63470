"""Tokenizers of transformers that are written in Python.

They share no serialised form. Three kinds are served, told apart by what they hold: a sentencepiece
model (``sp_model``), a byte-level alphabet (``byte_decoder``), and word pieces, recognised by what
``convert_tokens_to_string`` does to ``##``. Others are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivium._tokenizers.huggingface import end_ids, word_piece
from trivium._tokenizers.parts import Parts, byte_level, unsupported
from trivium._tokenizers.sentencepiece_model import check_denormalizer, piece_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from trivium.errors import UnsupportedError

__all__ = ["read"]


def read(tok: Any) -> Parts:
    """Take apart a slow tokenizer."""
    if not hasattr(tok, "added_tokens_decoder"):
        raise refusal(tok)
    added = {int(t): a for t, a in tok.added_tokens_decoder.items()}
    to_bytes, symbols, added_to_bytes = spelling(tok)
    symbols |= {int(t) for t in tok.all_special_ids} | {t for t, a in added.items() if a.special}
    base = int(tok.vocab_size)
    parts = Parts(eos=end_ids(tok))
    for token in sorted({int(t) for t in tok.get_vocab().values()} | set(added)):
        name = str(added[token].content if token in added else tok.convert_ids_to_tokens(token))
        if token in symbols:
            parts.special[token] = name
            continue
        if token in added:
            parts.added[token] = name
        parts.tokens[token] = (to_bytes if token < base else added_to_bytes)(name)
    return parts


def spelling(tok: Any) -> tuple[Callable[[str], bytes], set[int], Callable[[str], bytes]]:
    """Find how tokens spell text, the symbols of the model, and how added tokens spell text."""
    if hasattr(tok, "sp_model"):
        model = tok.sp_model
        check_denormalizer(model)
        size = int(model.get_piece_size())
        names = {
            model.id_to_piece(i) for i in range(size) if model.is_control(i) or model.is_unknown(i)
        }
        symbols = {int(i) for name, i in tok.get_vocab().items() if name in names}

        def from_piece(piece: str) -> bytes:
            token = model.piece_to_id(piece)
            same = model.id_to_piece(token) == piece
            return piece_bytes(piece, is_byte=same and model.is_byte(token))

        return from_piece, symbols, from_piece
    if hasattr(tok, "byte_decoder"):
        table = {str(c): int(b) for c, b in tok.byte_decoder.items()}
        return byte_level(table), set(), str.encode
    if joins_word_pieces(tok):

        def from_word_piece(token: str) -> bytes:
            return spell(token).encode()

        spell = word_piece("##", cleanup=False)
        return from_word_piece, set(), from_word_piece
    raise refusal(tok)


def refusal(tok: Any) -> UnsupportedError:
    """Build the error for a tokenizer of another kind."""
    return unsupported(
        f"the slow tokenizer {type(tok).__name__}",
        "in from_tokenizer",
        "use its fast form, or give the bytes of each id to Vocabulary(tokens, eos=...)",
    )


def joins_word_pieces(tok: Any) -> bool:
    """Whether decoding joins words with spaces and glues ``##`` pieces to the word before."""
    try:
        return bool(tok.convert_tokens_to_string(["a", "##b", "c"]) == "ab c")
    except Exception:  # foreign code over tokens that it may not know: then it is not word pieces
        return False
