"""`sentencepiece.SentencePieceProcessor`.

Its decoder is fixed: byte pieces are bytes, U+2581 is a space in every other piece, control pieces
are nothing. The space it drops at the beginning of a text is the dummy prefix and stays in the
bytes. Control pieces and the unknown piece stand for no text: they are symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivium._tokenizers.parts import Parts, unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["piece_bytes", "read"]

SPACE = "\u2581"
DENORMALIZER_SPEC = 5  # field of ModelProto
CHARSMAP = 2  # field of NormalizerSpec


def read(tok: Any) -> Parts:
    """Take a processor apart; a piece that the model marks as unused keeps its text."""
    check_denormalizer(tok)
    ids = list(range(int(tok.get_piece_size())))
    parts = Parts()
    for token, piece in zip(ids, tok.id_to_piece(ids), strict=True):
        if tok.is_control(token) or tok.is_unknown(token):
            parts.special[token] = piece
        else:
            parts.tokens[token] = piece_bytes(piece, is_byte=tok.is_byte(token))
    eos = int(tok.eos_id())
    parts.eos = [eos] if eos >= 0 else []
    return parts


def piece_bytes(piece: str, *, is_byte: bool) -> bytes:
    """Get the text bytes of a piece that is not a symbol."""
    if is_byte:
        return bytes([int(piece[3:5], 16)])
    return piece.replace(SPACE, " ").encode()


def check_denormalizer(tok: Any) -> None:
    """Refuse a model that rewrites the decoded text as a whole."""
    proto = tok.serialized_model_proto()
    for field, spec in fields(proto):
        if field == DENORMALIZER_SPEC and any(f == CHARSMAP and v for f, v in fields(spec)):
            raise unsupported(
                "a denormalizer",
                "in a sentencepiece model",
                "it rewrites decoded text across pieces, so pieces have no exact bytes",
            )


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over the length-delimited fields of a protocol buffer message."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        wire = key & 7
        if wire == 0:
            _, at = varint(message, at)
        elif wire == 2:
            size, at = varint(message, at)
            yield key >> 3, message[at : at + size]
            at += size
        else:
            at += 8 if wire == 1 else 4


def varint(message: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length integer and the offset behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
