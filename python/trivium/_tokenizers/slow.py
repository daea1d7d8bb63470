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

__all__ = ["read"]


def read(tok: Any) -> Parts:
    """Take apart a slow tokenizer."""
    to_bytes, symbols = spelling(tok)
    parts = Parts(eos=end_ids(tok))
    added = {int(t): a for t, a in tok.added_tokens_decoder.items()}
    special = {int(t) for t in tok.all_special_ids} | symbols
    own = {int(t) for t in tok.get_vocab().values()} | set(range(int(tok.vocab_size)))
    for token in sorted(own | set(added)):
        name = str(added[token].content if token in added else tok.convert_ids_to_tokens(token))
        if token in special or (token in added and added[token].special):
            parts.special[token] = name
        elif token in added and token >= int(tok.vocab_size):
            parts.added[token] = name
            parts.tokens[token] = name.encode()
        else:
            parts.tokens[token] = to_bytes(name)
    return parts


def spelling(tok: Any) -> tuple[Callable[[str], bytes], set[int]]:
    """Find how tokens spell text, and which ids the model itself declares as symbols."""
    if hasattr(tok, "sp_model"):
        model = tok.sp_model
        check_denormalizer(model)
        size = int(model.get_piece_size())
        symbol_names = {
            model.id_to_piece(i) for i in range(size) if model.is_control(i) or model.is_unknown(i)
        }
        symbols = {i for i in range(size) if tok.convert_ids_to_tokens(i) in symbol_names}

        def from_piece(piece: str) -> bytes:
            token = model.piece_to_id(piece)
            return piece_bytes(
                piece, is_byte=model.is_byte(token) and model.id_to_piece(token) == piece
            )

        return from_piece, symbols
    if hasattr(tok, "byte_decoder"):
        return byte_level({str(c): int(b) for c, b in tok.byte_decoder.items()}), set()
    if joins_word_pieces(tok):
        spell = word_piece("##", cleanup=False)
        return lambda token: spell(token).encode(), set()
    raise unsupported(
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
