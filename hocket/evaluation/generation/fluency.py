"""Whether continuations read as language, and whether they repeat: for models that are given no text.

**Generative perplexity** (Lakhotia et al. 2021, GSLM): what is heard in continuations, under a language model of text;
the exponential of nats per token, by that model's own tokens, after its start token where it has one. A model that
says one likely phrase for ever has a low one, so it stands beside two measures of repetition:

**auto-BLEU** the share of an utterance's words and word pairs that occur in it once more, outside of the one looked at
(geometric mean of the two shares); **self-BLEU** the share of them that other utterances have, at most as often as one
of them has it; **VERT** the geometric mean of both. As in fairseq's `examples/textless_nlp/gslm/metrics/asr_metrics`;
words are lower case without punctuation.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hocket.errors import InputError
from hocket.evaluation.generation.loading import reading

ORDERS = (1, 2)
BATCH = 8


class Reader:
    """A language model of text.

    Args:
        folder: a causal model of transformers with its tokenizer.

    Raises:
        InputError: the folder holds none.
    """

    def __init__(self, folder: str | Path, device: str = "cpu"):
        with reading(folder, "a language"):
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        self._model = model.to(device).eval()
        self.name = f"{self._model.config.model_type} {Path(folder).name}"

    def read(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Nats of each text and how many tokens they are the sum of; (0, 0) of one that has none."""
        found: list[tuple[float, int]] = []
        for first in range(0, len(texts), BATCH):
            found += self._read([self._tokens(text) for text in texts[first : first + BATCH]])
        return found

    def _tokens(self, text: str) -> list[int]:
        ids = self._tokenizer(text.strip(), add_special_tokens=False)["input_ids"] if text.strip() else []
        start = self._tokenizer.bos_token_id
        ids = ids if start is None or not ids else [start, *ids]
        most = getattr(self._model.config, "max_position_embeddings", None)
        if most is not None and len(ids) > most:
            raise InputError(f"{self.name} reads {most} tokens, and a transcript has {len(ids)}: {text[:40]!r} …")
        return ids

    @torch.inference_mode()
    def _read(self, rows: list[list[int]]) -> list[tuple[float, int]]:
        """Padding comes after the text, where a causal model does not look back at it."""
        longest = max(map(len, rows))
        if longest < 2:
            return [(0.0, 0)] * len(rows)
        ids_BT = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self._model.device)
        mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]).to(ids_BT)
        logits_BTV = self._model(input_ids=ids_BT, attention_mask=mask_BT).logits.float()
        nats_BT = torch.nn.functional.cross_entropy(logits_BTV[:, :-1].mT, ids_BT[:, 1:], reduction="none")
        sums_B = (nats_BT.double() * mask_BT[:, 1:]).sum(dim=1).tolist()
        return [(nats if len(row) > 1 else 0.0, max(0, len(row) - 1)) for nats, row in zip(sums_B, rows, strict=True)]


def auto_bleu(words: Sequence[str]) -> float:
    """How much of an utterance occurs in it again, 0 to 1."""
    if len(words) < 2:
        return 0.0
    return math.prod(_repeated(words, n) for n in ORDERS) ** (1 / len(ORDERS))


def _repeated(words: Sequence[str], n: int) -> float:
    """Share of the n-grams that occur once more in what is left of them or in what is right of them."""
    grams = _grams(words, n)
    again = [gram in grams[: max(0, p - n + 1)] or gram in grams[p + n :] for p, gram in enumerate(grams)]
    return sum(again) / len(again)


def self_bleu(utterances: Sequence[Sequence[str]]) -> list[float]:
    """How much of each utterance occurs in the others, 0 to 1; no penalty for length."""
    shares_NU = [_shared([Counter(_grams(words, n)) for words in utterances]) for n in ORDERS]
    return [math.prod(shares) ** (1 / len(shares)) for shares in zip(*shares_NU, strict=True)]


def _shared(counts: Sequence[Counter]) -> list[float]:
    """Share of each utterance's n-grams that others have, each as often as the one that has it most."""
    most: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for place, own in enumerate(counts):
        for gram, count in own.items():
            most[gram] = sorted([*most.get(gram, []), (count, place)], reverse=True)[:2]
    shares = []
    for place, own in enumerate(counts):
        others = (next((n for n, owner in most[gram] if owner != place), 0) for gram in own)
        shares.append(sum(map(min, own.values(), others)) / max(1, sum(own.values())))
    return shares


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[p : p + n]) for p in range(len(words) - n + 1)]
