"""Training material: the standard library, records and arithmetic, as token streams.

Nothing is fetched. Code comes from the running interpreter's standard library, records from
`trivium.tinylm.records`, arithmetic from `trivium.tinylm.problems`. A document of code ends in
``<|endoftext|>``; a record document or a worked answer ends in ``<|end|>``, the second end-of-text
id, followed by ``<|endoftext|>`` as the separator.
"""

from __future__ import annotations

import random
import sysconfig
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trivium.tinylm import problems, records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "END",
    "EOS",
    "HELDOUT_FILES",
    "MIXTURE",
    "PAD",
    "VOCAB_SIZE",
    "build_tokenizer",
    "code_files",
    "documents",
    "encode",
    "loss_weights",
]

VOCAB_SIZE = 4096
EOS, END, PAD = "<|endoftext|>", "<|end|>", "<|pad|>"

MIXTURE: dict[str, float] = {"code": 0.40, "records": 0.12, "arithmetic": 0.30, "drill": 0.18}
_QUESTION_WEIGHT = 0.05

HELDOUT_FILES: frozenset[str] = frozenset(
    {
        "bisect.py",
        "calendar.py",
        "cmd.py",
        "colorsys.py",
        "configparser.py",
        "fnmatch.py",
        "graphlib.py",
        "heapq.py",
        "linecache.py",
        "netrc.py",
        "queue.py",
        "reprlib.py",
        "sched.py",
        "shlex.py",
        "textwrap.py",
        "json/decoder.py",
        "email/utils.py",
        "http/cookies.py",
        "concurrent/futures/thread.py",
        "importlib/resources/readers.py",
    }
)
_EXCLUDED_DIRS = frozenset(
    {
        "__pycache__",
        "encodings",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idle_test",
    }
)
_MAX_FILE_BYTES = 250_000

# One token per digit; a word takes the blank in front of it; runs of blanks stay whole.
_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def code_files(*, heldout: bool = False) -> list[Path]:
    """List standard-library sources of one split in a fixed order.

    Parameters
    ----------
    heldout : bool
        The files named in `HELDOUT_FILES` instead of all others.

    Returns
    -------
    list of Path
        Absolute paths, sorted by their path inside the library.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(root.rglob("*.py")):
        inner = path.relative_to(root)
        if _EXCLUDED_DIRS.intersection(inner.parts) or inner.parts[0].startswith("config-"):
            continue
        if inner.name.startswith("_sysconfigdata") or path.stat().st_size > _MAX_FILE_BYTES:
            continue
        if (inner.as_posix() in HELDOUT_FILES) == heldout:
            found.append(path)
    return found


def documents(kind: str, seed: int, *, heldout: bool = False) -> Iterator[str]:
    """Documents of one kind with their closing tokens.

    Parameters
    ----------
    kind : {"code", "records", "arithmetic", "drill"}
        Kind of material.
    seed : int
        Seed of the generated kinds; ignored for code.
    heldout : bool
        Held-out split instead of the training split.

    Yields
    ------
    str
        Documents; code ends after one pass, the other kinds are endless.
    """
    if kind == "code":
        for path in code_files(heldout=heldout):
            text = path.read_text(encoding="utf-8", errors="replace").expandtabs(8)
            yield text.rstrip() + "\n" + EOS
    elif kind == "records":
        for text in records.stream(seed + 1_000_003 if heldout else seed):
            yield text + END + EOS
    elif kind == "arithmetic":
        for problem in problems.stream(seed, "heldout" if heldout else "train"):
            yield problem.text + END + EOS
    elif kind == "drill":
        rng = random.Random(f"trivium-drill-{seed + 1_000_003 if heldout else seed}")
        while True:
            yield problems.drill(rng) + END + EOS
    else:
        msg = f"kind must be one of {tuple(MIXTURE)}, got {kind!r}"
        raise ValueError(msg)


def build_tokenizer(seed: int, *, num_documents: int = 6000) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer.

    Parameters
    ----------
    seed : int
        Seed of the generated material.
    num_documents : int
        Number of documents of each kind, at most.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
        Tokenizer of `VOCAB_SIZE` tokens with `EOS`, `END` and `PAD` as ids 0, 1 and 2.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[EOS, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def texts() -> Iterator[str]:
        for kind in MIXTURE:
            for text in islice(documents(kind, seed), num_documents):
                yield text.replace(EOS, "").replace(END, "")

    core.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=EOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[END],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def encode(
    tokenizer: PreTrainedTokenizerFast,
    kind: str,
    seed: int,
    num_tokens: int,
    *,
    heldout: bool = False,
) -> NDArray[np.int16]:
    """Encode documents of one kind until there are enough tokens.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        Tokenizer from `build_tokenizer`.
    kind : {"code", "records", "arithmetic", "drill"}
        Kind of material.
    seed : int
        Seed of the generated kinds.
    num_tokens : int
        Wanted number of tokens; code stops earlier when the library is exhausted.
    heldout : bool
        Held-out split instead of the training split.

    Returns
    -------
    int16 array, shape (tokens,)
        Token ids of the concatenated documents.
    """
    source = documents(kind, seed, heldout=heldout)
    pieces: list[NDArray[np.int16]] = []
    total = 0
    while total < num_tokens:
        texts = list(islice(source, 512))
        if not texts:
            break
        core = tokenizer.backend_tokenizer
        for encoding in core.encode_batch_fast(texts, add_special_tokens=False):
            piece = np.asarray(encoding.ids, dtype=np.int16)
            pieces.append(piece)
            total += len(piece)
    return np.concatenate(pieces)[:num_tokens]


def loss_weights(kind: str, rows: NDArray[np.int16], question_end: int) -> NDArray[np.float32]:
    """Weight of each token in the loss.

    The wording of a word problem is chance and teaches nothing, yet its tokens outnumber those of
    the answer; they count little, so that the gradient speaks of the calculation.

    Parameters
    ----------
    kind : str
        Key of `MIXTURE`.
    rows : int16 array, shape (rows, row_len)
        Token ids.
    question_end : int
        Token that ends a question.

    Returns
    -------
    float32 array, shape (rows, row_len)
        Weights of the tokens as targets.
    """
    weights = np.ones(rows.shape, dtype=np.float32)
    if kind == "arithmetic":
        index = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
        opened = np.maximum.accumulate(np.where(rows == 0, index, -1), axis=1)
        closed = np.maximum.accumulate(np.where(rows == question_end, index, -1), axis=1)
        weights[(opened > closed) & (rows != 0)] = _QUESTION_WEIGHT
    return weights
