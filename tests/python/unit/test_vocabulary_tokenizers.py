"""`Vocabulary.from_tokenizer`: exact bytes from every kind of tokenizer, trained here and now."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trivium import Vocabulary, tinylm
from trivium.errors import InputError, UnsupportedError

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import (  # noqa: E402
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "to be, or not to be: that is the question.",
    "  indented\n\tcode = {'key': [1, 2, 3]}  # über naïve 日本語 😀",
    "he's played playing plays player; don't",
] * 3

# U+2581 is the space of sentencepiece: as a character of a text it comes back as a space.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\u2581"))
any_text = st.text() | st.sampled_from(CORPUS)


def trained(model: Any, trainer: Any, *, before: Any = None) -> Any:
    tok = Tokenizer(model)
    if before is not None:
        tok.pre_tokenizer = before
    tok.train_from_iterator(CORPUS, trainer)
    return tok


@cache
def byte_level_bpe() -> Any:
    tok = trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        before=pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    tok.decoder = decoders.ByteLevel()
    tok.add_tokens(["<tool>", "two words", AddedToken("日本", normalized=False)])
    return tok


@cache
def unigram_byte_fallback() -> Any:
    tok = trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=120, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False
        ),
        before=pre_tokenizers.Metaspace(),
    )
    vocab = json.loads(tok.to_str())["model"]["vocab"]
    vocab = [(p, s) for p, s in vocab] + [(f"<0x{b:02X}>", -50.0) for b in range(256)]
    tok = Tokenizer(models.Unigram(vocab, 0, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tok.add_special_tokens(["<unk>", "</s>"])
    tok.add_tokens([AddedToken("<code>", normalized=False)])
    return tok


@cache
def metaspace_unigram() -> Any:
    tok = trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        ),
        before=pre_tokenizers.Metaspace(),
    )
    tok.decoder = decoders.Metaspace()
    return tok


@cache
def word_piece(cleanup: bool = True) -> Any:
    tok = trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(
            vocab_size=150, special_tokens=["[UNK]", "[SEP]"], show_progress=False
        ),
        before=pre_tokenizers.BertPreTokenizer(),
    )
    tok.decoder = decoders.WordPiece(cleanup=cleanup)
    tok.add_tokens(["[cite]"])
    return tok


@cache
def word_level() -> Any:
    tok = Tokenizer(models.WordLevel({"[UNK]": 0, "to": 1, "be": 2, "not": 3}, unk_token="[UNK]"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    return tok


def ids_of(tok: Any, text: str) -> list[int]:
    return tok.encode(text, add_special_tokens=False).ids


# ---- byte-level ------------------------------------------------------------------------------


@given(any_text)
def test_byte_level_round_trip(text: str) -> None:
    vocab = vocab_of(byte_level_bpe)
    assert vocab.decode(ids_of(byte_level_bpe(), text)) == text.encode()


@cache
def vocab_of(make: Callable[[], Any]) -> Vocabulary:
    return Vocabulary.from_tokenizer(make(), eos=[])


def test_byte_level_parts() -> None:
    tok = byte_level_bpe()
    end = tok.token_to_id("<|end|>")
    vocab = Vocabulary.from_tokenizer(tok, eos=[end], num_rows=512)
    assert len(vocab) == tok.get_vocab_size()
    assert vocab.special == {end: "<|end|>"}
    assert (vocab.eos, vocab.num_rows) == ([end], 512)
    assert {vocab.token(i) for i in range(len(vocab))} >= {bytes([b]) for b in range(256)}
    assert vocab.token(tok.token_to_id("Ġthe")) == b" the"
    for literal in ("<tool>", "two words", "日本"):
        assert vocab.token(tok.token_to_id(literal)) == literal.encode()


def test_byte_level_is_read_from_the_pre_tokenizer_where_there_is_no_decoder() -> None:
    tok = Tokenizer.from_str(byte_level_bpe().to_str())
    state = json.loads(tok.to_str())
    state["decoder"] = None
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [state["pre_tokenizer"]]}
    bare = Tokenizer.from_str(json.dumps(state))
    assert Vocabulary.from_tokenizer(bare, eos=[]).digest == vocab_of(byte_level_bpe).digest


def test_added_token_that_is_a_byte_of_the_model_stays_that_byte() -> None:
    tok = Tokenizer.from_str(byte_level_bpe().to_str())
    before = tok.token_to_id("é")  # the stand-in of byte 0xE9
    tok.add_tokens(["é", "éé"])
    vocab = Vocabulary.from_tokenizer(tok, eos=[])
    assert tok.token_to_id("é") == before
    assert vocab.token(before) == b"\xe9"
    assert vocab.token(tok.token_to_id("éé")) == "éé".encode()


# ---- sentencepiece-like -----------------------------------------------------------------------


@given(texts | st.sampled_from(CORPUS))
def test_byte_fallback_round_trip_with_dummy_prefix(text: str) -> None:
    vocab = vocab_of(unigram_byte_fallback)
    bytes_ = vocab.decode(ids_of(unigram_byte_fallback(), text))
    # An added token splits the text; every part gets its own prefix from the normalizer.
    if "<code>" not in text:
        assert bytes_ == (b" " if text else b"") + text.encode()


def test_byte_fallback_parts() -> None:
    tok = unigram_byte_fallback()
    vocab = vocab_of(unigram_byte_fallback)
    assert vocab.special == {0: "<unk>", tok.token_to_id("</s>"): "</s>"}
    for b in range(256):
        assert vocab.token(tok.token_to_id(f"<0x{b:02X}>")) == bytes([b])
    assert vocab.token(tok.token_to_id("▁")) == b" "
    assert vocab.token(tok.token_to_id("<code>")) == b"<code>"


@given(st.lists(st.sampled_from(" abcdefghijklmnopqrstuvwxyz,.:\n日本")).map("".join))
def test_metaspace_round_trip(text: str) -> None:
    tok = metaspace_unigram()
    vocab = vocab_of(metaspace_unigram)
    prefix = "" if text.startswith(" ") or not text else " "
    ids = ids_of(tok, text)
    if 0 not in ids:
        assert vocab.decode(ids) == (prefix + text).encode()


def test_unknown_token_is_a_symbol() -> None:
    assert vocab_of(metaspace_unigram).special == {0: "<unk>"}
    assert vocab_of(word_level).special == {0: "[UNK]"}


# ---- the definition: what the decoder appends -------------------------------------------------


@pytest.mark.parametrize("kind", [metaspace_unigram, word_piece, word_level, byte_level_bpe])
def test_bytes_are_what_the_decoder_appends(kind: Callable[[], Any]) -> None:
    tok, vocab = kind(), vocab_of(kind)
    plain = [i for i in range(len(vocab)) if i not in vocab.special]
    anchors = {"word_level": "to"}
    anchor = ids_of(tok, anchors.get(kind.__name__, "the"))

    @given(st.lists(st.sampled_from(plain), max_size=6))
    def check(ids: list[int]) -> None:
        head = tok.decode(anchor, skip_special_tokens=False)
        whole = tok.decode(anchor + ids, skip_special_tokens=False)
        assert whole == head + vocab.decode(ids).decode(errors="replace")

    check()


@pytest.mark.parametrize("cleanup", [True, False])
def test_word_piece_spelling(cleanup: bool) -> None:
    tok = word_piece(cleanup)
    vocab = Vocabulary.from_tokenizer(tok, eos=[tok.token_to_id("[SEP]")])
    assert vocab.special == {0: "[UNK]", 1: "[SEP]"}
    assert vocab.token(tok.token_to_id("the")) == b" the"
    assert vocab.token(tok.token_to_id("##s")) == b"s"
    assert vocab.token(tok.token_to_id(".")) == (b"." if cleanup else b" .")
    assert vocab.token(tok.token_to_id("[cite]")) == b" [cite]"
    ids = ids_of(tok, "the player plays")
    assert vocab.decode(ids) == b" the player plays"
    assert tok.decode(ids) == "the player plays"


# ---- sentencepiece ----------------------------------------------------------------------------


@cache
def processor(**options: Any) -> Any:
    spm = pytest.importorskip("sentencepiece")
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=out,
        vocab_size=370,
        hard_vocab_limit=False,
        byte_fallback=True,
        user_defined_symbols=["<tool>"],
        control_symbols=["<ctl>"],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **options,
    )
    return spm.SentencePieceProcessor(model_proto=out.getvalue())


@given(texts | st.sampled_from(CORPUS))
def test_sentencepiece_round_trip(text: str) -> None:
    for prefix in (True, False):
        sp = processor(add_dummy_prefix=prefix)
        vocab = processor_vocab(prefix)
        head = b" " if prefix and text else b""
        assert vocab.decode(sp.encode(text)) == head + text.encode()


@cache
def processor_vocab(prefix: bool) -> Vocabulary:
    return Vocabulary.from_tokenizer(processor(add_dummy_prefix=prefix))


def test_sentencepiece_parts() -> None:
    sp = processor(add_dummy_prefix=True)
    vocab = Vocabulary.from_tokenizer(sp)
    assert vocab.special == {0: "<unk>", 1: "<s>", 2: "</s>", sp.piece_to_id("<ctl>"): "<ctl>"}
    assert vocab.eos == [2]
    assert vocab.token(sp.piece_to_id("<0xE4>")) == b"\xe4"
    assert vocab.token(sp.piece_to_id("<tool>")) == b"<tool>"
    assert Vocabulary.from_tokenizer(sp, eos=[1, 2]).eos == [1, 2]


def test_sentencepiece_without_an_end_piece() -> None:
    assert Vocabulary.from_tokenizer(processor(eos_id=-1)).eos == []


def test_denormalizer_is_refused() -> None:
    spm = pytest.importorskip("sentencepiece")
    proto = processor(add_dummy_prefix=True).serialized_model_proto()
    # ModelProto.denormalizer_spec (field 5) with a precompiled_charsmap (field 2).
    spec = b"\x12\x02\x00\x00"
    sp = spm.SentencePieceProcessor()
    sp.LoadFromSerializedProto(proto)
    forged = Forged(sp, proto + b"\x2a" + bytes([len(spec)]) + spec)
    with pytest.raises(UnsupportedError, match="denormalizer"):
        Vocabulary.from_tokenizer(forged)


class Forged:
    """A processor with another serialised form."""

    def __init__(self, sp: Any, proto: bytes) -> None:
        self._sp, self._proto = sp, proto

    def serialized_model_proto(self) -> bytes:
        return self._proto

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sp, name)


# ---- tiktoken ---------------------------------------------------------------------------------


@cache
def encoding() -> Any:
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([b]): b for b in range(256)}
    for i, piece in enumerate(
        [b"th", b"the", b" the", b"\xe6\x97", b"\xe6\x97\xa5", b"in", b"ing"]
    ):
        ranks[piece] = 256 + i
    return tiktoken.Encoding(
        "tiny",
        pat_str=r"\s?\w+|\s+|[^\s\w]+",
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 270, "<|im_end|>": 275},
    )


@given(any_text)
def test_tiktoken_round_trip(text: str) -> None:
    enc = encoding()
    vocab = vocab_of(encoding)
    assert vocab.decode(enc.encode_ordinary(text)) == text.encode()


def test_tiktoken_parts_and_holes() -> None:
    vocab = Vocabulary.from_tokenizer(encoding(), num_rows=288)
    assert len(vocab) == 276
    assert vocab.special == {270: "<|endoftext|>", 275: "<|im_end|>"}
    assert vocab.eos == [270]
    assert vocab.num_rows == 288
    assert all(vocab.token(hole) == b"" for hole in (263, 269, 271, 274))
    assert vocab.token(260) == "日".encode()


# ---- transformers -----------------------------------------------------------------------------


@pytest.mark.stack
def test_transformers_fast() -> None:
    transformers = pytest.importorskip("transformers")
    tok = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(byte_level_bpe().to_str()),
        eos_token="<|end|>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )
    tok.add_tokens(["<lit>"])
    vocab = Vocabulary.from_tokenizer(tok, num_rows=1024)
    assert len(vocab) == len(tok)
    assert vocab.eos == [tok.eos_token_id]
    assert vocab.special == {tok.eos_token_id: "<|end|>", tok.pad_token_id: "<|pad|>"}
    assert vocab.token(tok.convert_tokens_to_ids("<lit>")) == b"<lit>"
    for text in CORPUS:
        assert vocab.decode(tok(text)["input_ids"]) == text.encode()
    both = Vocabulary.from_tokenizer(tok, eos=[tok.eos_token_id, tok.pad_token_id])
    assert both.eos == sorted([tok.eos_token_id, tok.pad_token_id])


@pytest.mark.stack
@given(any_text)
def test_tokenizer_that_ships(text: str) -> None:
    tok, vocab = shipped()
    assert vocab.decode(tok(text, add_special_tokens=False)["input_ids"]) == text.encode()


@cache
def shipped() -> tuple[Any, Vocabulary]:
    transformers = pytest.importorskip("transformers")
    folder = tinylm.path("target")
    if not (folder / "tokenizer.json").is_file():
        pytest.skip("the checkpoint is not in this checkout")
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    config = json.loads((folder / "config.json").read_text())
    return tok, Vocabulary.from_tokenizer(tok, eos=ends, num_rows=config["vocab_size"])


def test_an_added_token_that_ends_the_sequence_is_a_symbol() -> None:
    tok = Tokenizer.from_str(byte_level_bpe().to_str())
    tok.add_tokens(["<turn>"])
    turn = tok.token_to_id("<turn>")
    assert Vocabulary.from_tokenizer(tok, eos=[]).token(turn) == b"<turn>"
    vocab = Vocabulary.from_tokenizer(tok, eos=turn)
    assert vocab.special[turn] == "<turn>"
    assert vocab.token(turn) == b""
    newline = tok.token_to_id("Ċ")
    assert Vocabulary.from_tokenizer(tok, eos=[newline]).token(newline) == b"\n"


@pytest.mark.stack
def test_transformers_slow_sentencepiece(tmp_path) -> None:
    pytest.importorskip("transformers")
    from transformers.models.bert_generation.tokenization_bert_generation import (
        BertGenerationTokenizer,
    )

    sp = processor(add_dummy_prefix=True)
    path = tmp_path / "spiece.model"
    path.write_bytes(sp.serialized_model_proto())
    tok = BertGenerationTokenizer(str(path))
    tok.add_tokens(["<lit>"])
    vocab = Vocabulary.from_tokenizer(tok)
    assert vocab.eos == [tok.eos_token_id]
    assert {"<unk>", "<s>", "</s>", "<ctl>"} <= set(vocab.special.values())
    assert vocab.token(tok.convert_tokens_to_ids("<lit>")) == b"<lit>"
    for i in range(sp.get_piece_size()):
        if i not in vocab.special:
            assert vocab.token(i) == processor_vocab(True).token(i)


@pytest.mark.stack
def test_transformers_slow_word_piece(tmp_path) -> None:
    pytest.importorskip("transformers")
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "."]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(words))
    vocab = Vocabulary.from_tokenizer(BertTokenizerLegacy(str(path)), eos=[3])
    assert [vocab.token(i) for i in (5, 6, 7)] == [b" play", b"ing", b" ."]
    assert sorted(vocab.special) == [0, 1, 2, 3, 4]


@pytest.mark.stack
def test_transformers_slow_byte_level(tmp_path) -> None:
    pytest.importorskip("transformers")
    from transformers.models.clvp.tokenization_clvp import ClvpTokenizer

    own = json.loads(byte_level_bpe().to_str())["model"]["vocab"]
    (tmp_path / "vocab.json").write_text(json.dumps({**own, "[UNK]": len(own)}))
    (tmp_path / "merges.txt").write_text("#version\n")
    tok = ClvpTokenizer(
        str(tmp_path / "vocab.json"),
        str(tmp_path / "merges.txt"),
        bos_token="<|end|>",
        eos_token="<|end|>",
    )
    vocab = Vocabulary.from_tokenizer(tok)
    assert vocab.token(own["Ġthe"]) == b" the"
    assert vocab.eos == [own["<|end|>"]]


@pytest.mark.stack
def test_transformers_slow_without_known_spelling_is_refused() -> None:
    transformers = pytest.importorskip("transformers")
    with pytest.raises(UnsupportedError, match="slow tokenizer"):
        Vocabulary.from_tokenizer(transformers.ByT5Tokenizer())


# ---- refusals ---------------------------------------------------------------------------------


def bpe(**options: Any) -> Any:
    return Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[], **options))


@pytest.mark.parametrize(
    ("model", "decoder", "before"),
    [
        ({}, None, None),
        ({}, decoders.BPEDecoder(), None),
        ({}, decoders.CTC(), None),
        ({"end_of_word_suffix": "</w>"}, decoders.ByteLevel(), None),
        ({"byte_fallback": True}, decoders.Metaspace(), None),
        ({"continuing_subword_prefix": "##"}, decoders.Fuse(), None),
        ({}, decoders.Fuse(), pre_tokenizers.ByteLevel()),
        ({}, decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "c")]), None),
        ({}, decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)]), None),
        ({}, decoders.Sequence([decoders.ByteFallback(), decoders.Replace("▁", " ")]), None),
        ({}, decoders.Replace(tokenizers.Regex("a+"), "b"), None),
    ],
)
def test_what_cannot_be_exact_is_refused(model: Any, decoder: Any, before: Any) -> None:
    tok = bpe(**model)
    if decoder is not None:
        tok.decoder = decoder
    if before is not None:
        tok.pre_tokenizer = before
    with pytest.raises(UnsupportedError) as caught:
        Vocabulary.from_tokenizer(tok)
    assert caught.value.feature
    assert caught.value.hint


def test_no_tokenizer_is_an_input_error() -> None:
    for thing in (None, 3, "gpt2", {"a": 0}, object()):
        with pytest.raises(InputError, match="no tokenizer"):
            Vocabulary.from_tokenizer(thing)


def test_strip_before_fuse_cuts_each_token() -> None:
    tok = Tokenizer(models.BPE(vocab={"__a__": 0, "b": 1, "___": 2}, merges=[]))
    tok.decoder = decoders.Sequence([decoders.Strip("_", 1, 2), decoders.Fuse()])
    vocab = Vocabulary.from_tokenizer(tok, eos=[])
    assert [vocab.token(i) for i in range(3)] == [b"_a", b"b", b""]
    assert tok.decode([1, 0]) == "b_a"


def test_num_rows_below_the_tokens_is_an_input_error() -> None:
    with pytest.raises(InputError, match="num_rows"):
        Vocabulary.from_tokenizer(byte_level_bpe(), eos=[], num_rows=10)
