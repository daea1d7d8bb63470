"""`tokenizers.Tokenizer`, and the fast tokenizers of transformers that hold one.

Everything is read from the serialised form (``tokenizer.json``). Its ``decoder`` is a pipeline of
steps over the list of tokens; `compile_decoder` turns it into a function of a *single* token:

==============  =================================================================================
step            effect on a token in the middle of a text
==============  =================================================================================
``ByteLevel``   GPT-2's byte alphabet, inverted
``Metaspace``   U+2581 becomes a space
``Replace``     literal replacement
``ByteFallback``  ``<0xE4>`` becomes that byte
``Fuse``        none
``Strip``       before ``Fuse`` it cuts each token; after it only the beginning of the text
``WordPiece``   ``##ing`` loses its prefix, any other token gains a leading space; then the cleanup
==============  =================================================================================

A space that the decoder drops at the *beginning* of a text (Metaspace, Strip, WordPiece's first
word) stays in the bytes: there it is the dummy prefix, elsewhere it is text. Steps that look at
neighbours or at the *end* of the text (``BPEDecoder``, ``CTC``, replacements after ``Fuse``) have
no exact bytes per token and are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from trivium._tokenizers.parts import Parts, byte_level, byte_level_table, unsupported

__all__ = ["compile_decoder", "read", "read_fast"]

Piece = str | bytes
Step = Callable[[Piece], Piece]

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

# What the decoder of tokenizers itself replaces, in its order.
CLEANUP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def read_fast(tok: Any) -> Parts:
    """Take apart a fast tokenizer of transformers."""
    parts = read(tok.backend_tokenizer)
    for name in tok.all_special_tokens:
        token = tok.convert_tokens_to_ids(str(name))
        if token is not None:  # declared, but not in the vocabulary
            parts.special.setdefault(int(token), str(name))
    parts.eos = end_ids(tok)
    for token in parts.special:
        parts.tokens.pop(token, None)
        parts.added.pop(token, None)
    return parts


def end_ids(tok: Any) -> list[int]:
    """Get ``eos_token_id`` of a transformers tokenizer as a list."""
    eos = getattr(tok, "eos_token_id", None)
    if eos is None:
        return []
    return [int(t) for t in eos] if isinstance(eos, list | tuple) else [int(eos)]


def read(tok: Any) -> Parts:
    """Take apart a `tokenizers.Tokenizer`, which declares no end ids."""
    data = json.loads(tok.to_str())
    model = data["model"]
    vocab = model["vocab"]
    names: dict[int, str] = (
        {i: piece for i, (piece, _) in enumerate(vocab)}
        if isinstance(vocab, list)
        else {i: piece for piece, i in vocab.items()}
    )
    to_bytes = decoder_of(data)
    is_byte_level = has_type(data.get("decoder") or data.get("pre_tokenizer"), "ByteLevel")
    parts = Parts(tokens={i: to_bytes(name) for i, name in names.items()})
    unknown = unknown_id(model)
    if unknown is not None and unknown in names:
        parts.special[unknown] = names[unknown]
    for added in data.get("added_tokens", ()):
        token, content = int(added["id"]), str(added["content"])
        if added["special"]:
            parts.special[token] = content
        else:
            parts.added[token] = content
            # Outside the model's own vocabulary the content is text as typed, which a byte-level
            # alphabet would misread; inside it the model spells ordinary text with it.
            if token not in names:
                parts.tokens[token] = content.encode() if is_byte_level else to_bytes(content)
    for token in parts.special:
        parts.tokens.pop(token, None)
    return parts


def unknown_id(model: dict[str, Any]) -> int | None:
    """Get the id of "text that the vocabulary cannot spell": a symbol, since it is no text."""
    if isinstance(model["vocab"], list):
        return model.get("unk_id")
    name = model.get("unk_token")
    return None if name is None else model["vocab"].get(name)


def flat(node: Any, inner: str) -> Iterator[dict[str, Any]]:
    """Iterate over the steps of a possibly nested ``Sequence``."""
    if not node:
        return
    if node["type"] == "Sequence":
        for child in node[inner]:
            yield from flat(child, inner)
    else:
        yield node


def steps(node: Any) -> list[dict[str, Any]]:
    """List the steps of a decoder or a pre-tokenizer."""
    inner = "decoders" if node and "decoders" in node else "pretokenizers"
    return list(flat(node, inner))


def has_type(node: Any, kind: str) -> bool:
    """Whether a step of that type is present."""
    return any(step["type"] == kind for step in steps(node))


def decoder_of(data: dict[str, Any]) -> Callable[[str], bytes]:
    """Find how tokens spell text: by the decoder, or by what an absent one would have to undo."""
    model, decoder, before = data["model"], data.get("decoder"), data.get("pre_tokenizer")
    kind = model.get("type")
    if model.get("end_of_word_suffix"):
        raise unsupported(
            f"end_of_word_suffix {model['end_of_word_suffix']!r}",
            "in the tokenizer's model",
            "a word-end mark is a space or nothing depending on what follows",
        )
    if decoder is None:
        if has_type(before, "ByteLevel"):
            decoder = {"type": "ByteLevel"}
        elif has_type(before, "Metaspace"):
            decoder = next(s for s in steps(before) if s["type"] == "Metaspace")
        elif kind == "WordLevel":
            return lambda token: b" " + token.encode()  # decode() joins with spaces
        else:
            raise unsupported(
                f"a {kind} tokenizer without a decoder",
                "in from_tokenizer",
                "set tok.decoder, for example to tokenizers.decoders.Fuse()",
            )
    types = {s["type"] for s in steps(decoder)}
    if has_type(before, "ByteLevel") and "ByteLevel" not in types:
        raise unsupported(
            "a ByteLevel pre-tokenizer with a decoder that does not undo it",
            "in from_tokenizer",
            "set tok.decoder to tokenizers.decoders.ByteLevel()",
        )
    if model.get("byte_fallback") and "ByteFallback" not in types:
        raise unsupported(
            "byte_fallback without a ByteFallback decoder",
            "in from_tokenizer",
            "its decode() spells bytes as <0xE4>; add tokenizers.decoders.ByteFallback()",
        )
    prefix = model.get("continuing_subword_prefix")
    undone = {s.get("prefix") for s in steps(decoder) if s["type"] == "WordPiece"}
    if prefix and prefix not in undone:
        raise unsupported(
            f"continuing_subword_prefix {prefix!r} with a decoder that does not undo it",
            "in from_tokenizer",
            f"set tok.decoder to tokenizers.decoders.WordPiece(prefix={prefix!r})",
        )
    return compile_decoder(decoder)


def compile_decoder(decoder: dict[str, Any]) -> Callable[[str], bytes]:
    """Turn a decoder into a function of one token; see the module's table."""
    chain: list[Step] = []
    fused = bytes_made = False
    for step in steps(decoder):
        kind = step["type"]
        if kind == "Fuse":
            fused = True
        elif kind == "Strip" and fused and step["stop"] == 0:
            pass  # only the beginning of the text: the dummy prefix
        elif fused or (bytes_made and kind in ("Replace", "Metaspace", "Strip", "WordPiece")):
            raise unsupported(
                f"decoder step {kind} after the tokens were joined",
                "in from_tokenizer",
                "what a token contributes then depends on its neighbours",
            )
        elif kind == "ByteLevel":
            chain.append(on_text(byte_level(byte_level_table())))
            fused = True
        elif kind == "ByteFallback":
            chain.append(on_text(byte_token))
            bytes_made = True
        elif kind == "Metaspace":
            chain.append(on_text(replacing(step["replacement"], " ")))
        elif kind == "Replace" and "String" in step["pattern"]:
            chain.append(on_text(replacing(step["pattern"]["String"], step["content"])))
        elif kind == "Strip":
            chain.append(on_text(stripping(step["content"], step["start"], step["stop"])))
        elif kind == "WordPiece":
            chain.append(on_text(word_piece(step["prefix"], step["cleanup"])))
        else:
            raise unsupported(
                f"decoder step {kind}",
                "in from_tokenizer",
                "give the bytes of each id to Vocabulary(tokens, eos=...)",
            )

    def to_bytes(token: str) -> bytes:
        piece: Piece = token
        for step in chain:
            piece = step(piece)
        return piece if isinstance(piece, bytes) else piece.encode()

    return to_bytes


def on_text(step: Callable[[str], Piece]) -> Step:
    """Leave pieces that are bytes already alone."""
    return lambda piece: piece if isinstance(piece, bytes) else step(piece)


def byte_token(token: str) -> Piece:
    """Read ``<0xE4>``."""
    match = BYTE_TOKEN.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token


def replacing(old: str, new: str) -> Callable[[str], str]:
    """Make a literal replacement."""
    return lambda token: token.replace(old, new)


def stripping(content: str, start: int, stop: int) -> Callable[[str], str]:
    """Make a cut of at most `start` leading and `stop` trailing characters `content`."""

    def strip(token: str) -> str:
        left = min(start, len(token) - len(token.lstrip(content)))
        right = min(stop, len(token) - len(token.rstrip(content)))
        return token[left : max(left, len(token) - right)]

    return strip


def word_piece(prefix: str, cleanup: bool) -> Callable[[str], str]:
    """Make the spelling of a token that is not the first one."""

    def spell(token: str) -> str:
        text = token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
        if cleanup:
            for old, new in CLEANUP:
                text = text.replace(old, new)
        return text

    return spell
