"""Tiny models for checks of whole engines: eight tokens, so that a law test has power.

`target` and `draft` are NumPy networks that look at the whole prefix; `llama_pair` makes two random
Llamas for engines that run transformers models. Nothing is downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError, MissingExtraError
from trivium.testing.laws import sampling_law

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["TinyModel", "TorchModel", "draft", "llama_pair", "target"]

VOCAB = 8
_CACHE = 100_000  # rows and laws kept by prefix


class TinyModel:
    """A random recurrent network over a small vocabulary.

    Parameters
    ----------
    seed : int, optional
        Equal seeds give equal weights.
    vocab : int, optional
        Vocabulary size.
    noise : float, optional
        How far the weights are from those of `seed` with no noise: a draft model.
    sharpness : float, optional
        Scale of the logits.

    Examples
    --------
    >>> model = TinyModel()
    >>> model.logits([1, 2, 3]).shape
    (8,)
    >>> model.forward([1, 2, 3]).shape
    (3, 8)
    """

    def __init__(
        self, seed: int = 0, *, vocab: int = VOCAB, noise: float = 0.0, sharpness: float = 1.5
    ) -> None:
        if vocab < 2:
            raise InputError(f"vocab: {vocab} is below 2")
        rng = np.random.default_rng([seed, vocab])
        self.vocab = vocab
        width = 12
        self._embed = rng.normal(size=(vocab, width))
        self._mix = rng.normal(size=(width, width)) / np.sqrt(width)
        self._out = rng.normal(size=(width, vocab)) * sharpness / np.sqrt(width) * 2.0
        if noise:
            self._out = self._out + noise * rng.normal(size=self._out.shape)
        self._states: dict[tuple[int, ...], npt.NDArray[np.float64]] = {(): np.zeros(width)}
        self._laws: dict[Any, npt.NDArray[np.float64]] = {}

    def _state(self, prefix: tuple[int, ...]) -> npt.NDArray[np.float64]:
        state = self._states.get(prefix)
        if state is None:
            if len(self._states) > _CACHE:
                self._states = {(): self._states[()]}
            before = self._state(prefix[:-1])
            state = np.tanh(before @ self._mix + self._embed[prefix[-1]])
            self._states[prefix] = state
        return state

    def logits(self, prefix: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the logits of the next token, float32, shape ``(vocab,)``."""
        if not len(prefix):
            raise InputError("prefix: the model needs at least one token")
        row: npt.NDArray[np.float32] = (
            self._state(tuple(int(t) for t in prefix)) @ self._out
        ).astype(np.float32)
        return row

    def forward(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the logits after every token, float32, shape ``(n, vocab)``."""
        return np.array([self.logits(tokens[: i + 1]) for i in range(len(tokens))])

    def tree(
        self, prefix: Sequence[int], tokens: Sequence[int], parents: Sequence[int]
    ) -> npt.NDArray[np.float32]:
        """Return the logits at every node of a tree, float32, shape ``(N, vocab)``.

        Parameters
        ----------
        prefix : sequence of int
            Committed tokens before node 0.
        tokens, parents : sequence of int
            Node 0 is the last committed token; its parent is -1.
        """
        paths: list[tuple[int, ...]] = []
        for token, parent in zip(tokens, parents, strict=True):
            before = tuple(int(t) for t in prefix) if parent < 0 else paths[int(parent)]
            paths.append((*before, int(token)))
        return np.array([self.logits(path) for path in paths])

    def law(self, prefix: Sequence[int], params: Any) -> npt.NDArray[np.float64]:
        """Return the processed law of the next token."""
        arguments = params.law()
        key = (tuple(int(t) for t in prefix), tuple(arguments.values()))
        law = self._laws.get(key)
        if law is None:
            if len(self._laws) > _CACHE:
                self._laws.clear()
            law = self._laws[key] = sampling_law(self.logits(key[0]), **arguments)
        return law.copy()


def target(seed: int = 0) -> TinyModel:
    """Return the target model of `check_engine`."""
    return TinyModel(seed)


def draft(seed: int = 0, *, noise: float = 0.6) -> TinyModel:
    """Return a draft model that resembles `target`."""
    return TinyModel(seed, noise=noise)


class TorchModel:
    """A causal language model of transformers as a target of `check_engine`.

    Parameters
    ----------
    model : transformers model
        Called on ``input_ids`` of shape ``(1, n)``; rows are cached by prefix.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.vocab = int(model.config.vocab_size)
        self._rows: dict[tuple[int, ...], npt.NDArray[np.float32]] = {}

    def logits(self, prefix: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the logits of the next token, float32, shape ``(vocab,)``."""
        import torch

        key = tuple(int(t) for t in prefix)
        row = self._rows.get(key)
        if row is None:
            with torch.no_grad():
                out = self._model(input_ids=torch.tensor([key])).logits[0, -1]
            row = self._rows[key] = out.float().cpu().numpy()
        return row.copy()

    def law(self, prefix: Sequence[int], params: Any) -> npt.NDArray[np.float64]:
        """Return the processed law of the next token."""
        return sampling_law(self.logits(prefix), **params.law())


def llama_pair(seed: int = 0, *, vocab: int = VOCAB, sharpness: float = 8.0) -> tuple[Any, Any]:
    """Return a target and a draft Llama with random weights, in evaluation mode.

    Parameters
    ----------
    seed : int, optional
        Seed of the weights; torch's global generator is left as it was.
    vocab : int, optional
        Vocabulary size.
    sharpness : float, optional
        Scale of the output layer; random layers alone give nearly flat laws.

    Returns
    -------
    tuple
        ``(target, draft)``.

    Raises
    ------
    MissingExtraError
        torch or transformers is absent.
    """
    try:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise MissingExtraError("pip install 'trivium[transformers]'") from error
    pair = []
    for number, (width, layers) in enumerate(((32, 2), (16, 1))):
        config = LlamaConfig(
            vocab_size=vocab,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 2 + number)
            model = LlamaForCausalLM(config).eval()
            with torch.no_grad():
                torch.nn.init.normal_(model.model.embed_tokens.weight, std=1.0)
                torch.nn.init.normal_(model.lm_head.weight, std=sharpness / 4.0 / width**0.5)
        pair.append(model)
    return pair[0], pair[1]
