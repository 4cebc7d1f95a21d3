"""From rows of judged outputs to what a table shows: each number with its 95 % interval.

    wer, cer                 %, errors by words or characters of all utterances together, utterances drawn
    wer_mean, cer_mean       %, mean over utterances
    perplexity               exp(nats / tokens) of all continuations together; perplexity_mean: mean over them (GSLM)
    auto_bleu, self_bleu, vert   %, see `fluency.py`; vert is the geometric mean of the two means
    silent                   %, outputs in which nothing is heard: they have no perplexity
    seconds, ended           mean length after the prompt; % that the model ended itself
    similarity…, dnsmos, …   means over the outputs that have a score

Samples of one utterance are drawn together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hocket.evaluation.bootstrap import bootstrap, bootstrap_means, bootstrap_ratio
from hocket.evaluation.generation.fluency import auto_bleu, self_bleu
from hocket.evaluation.generation.normalising import find_normaliser
from hocket.evaluation.generation.utterances import Utterance
from hocket.evaluation.results import MODEL, ORIGINAL, RESYNTHESIS, Heard, Measure

KINDS = (ORIGINAL, RESYNTHESIS, MODEL)
COUNTED = ("wrong_words", "words", "wrong_characters", "characters", "nats", "tokens")
Rows = Sequence[dict[str, Any]]


def summarise(protocol: str, rows: Rows, utterances: dict[str, Utterance]) -> list[Heard]:
    """A line of the table for each kind of sound."""
    found = []
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        if own:
            metrics = _words(own) | _fluency(own, utterances) | _means(own) | _lengths(own)
            found.append(Heard(protocol=protocol, kind=kind, n=len(own), metrics=metrics))
    return found


def _groups(rows: Rows) -> list[str]:
    return [row["utterance"] for row in rows]


def _words(rows: Rows) -> dict[str, Measure]:
    own = [row for row in rows if "words" in row["scores"]]
    if not own:
        return {}
    metrics = {}
    for name, wrong, of in (("wer", "wrong_words", "words"), ("cer", "wrong_characters", "characters")):
        parts, wholes = ([row["scores"][key] for row in own] for key in (wrong, of))
        shares = [part / whole for part, whole in zip(parts, wholes, strict=True)]
        metrics[name] = bootstrap_ratio(parts, wholes, _groups(own), scale=100)
        metrics[f"{name}_mean"] = bootstrap(shares, _groups(own), scale=100)
    return metrics


def _fluency(rows: Rows, utterances: dict[str, Utterance]) -> dict[str, Measure]:
    """Of what is heard after the prompt, where it was listened to."""
    own = [row for row in rows if row.get("continuation") is not None]
    if not own:
        return {}
    words = [_spoken(row["continuation"], utterances[row["utterance"]].language) for row in own]
    groups, autos, selves = _groups(own), [auto_bleu(one) for one in words], self_bleu(words)
    metrics = _perplexity(own)
    metrics["auto_bleu"] = bootstrap(autos, groups, scale=100)
    if len(own) > 1:
        metrics["self_bleu"] = bootstrap(selves, groups, scale=100)
        columns_NC = np.stack([autos, selves], axis=1)
        metrics["vert"] = bootstrap_means(columns_NC, lambda means: np.sqrt(means.prod(axis=-1)), groups, scale=100)
    metrics["silent"] = bootstrap([not one for one in words], groups, scale=100)
    return metrics


def _spoken(text: str, language: str | None) -> list[str]:
    """Words, without dots that stand alone."""
    return [word for word in find_normaliser(language)(text).split() if any(map(str.isalnum, word))]


def _perplexity(rows: Rows) -> dict[str, Measure]:
    own = [row for row in rows if row["scores"].get("tokens")]
    if not own:
        return {}
    nats, tokens = ([row["scores"][key] for row in own] for key in ("nats", "tokens"))
    columns_NC, groups = np.stack([nats, tokens], axis=1), _groups(own)
    each = np.exp(columns_NC[:, 0] / columns_NC[:, 1])
    whole = bootstrap_means(columns_NC, lambda means: np.exp(means[..., 0] / means[..., 1]), groups)
    return {"perplexity": whole, "perplexity_mean": bootstrap(each, groups)}


def _means(rows: Rows) -> dict[str, Measure]:
    names = dict.fromkeys(name for row in rows for name in row["scores"] if name not in COUNTED)
    metrics = {}
    for name in sorted(names):
        own = [row for row in rows if name in row["scores"]]
        metrics[name] = bootstrap([row["scores"][name] for row in own], _groups(own))
    return metrics


def _lengths(rows: Rows) -> dict[str, Measure]:
    heard = [row for row in rows if row["wav"]]
    ended = [row for row in rows if row["ended"] is not None]
    metrics = {"seconds": bootstrap([row["seconds"] for row in heard], _groups(heard))} if heard else {}
    return metrics | ({"ended": bootstrap([row["ended"] for row in ended], _groups(ended), scale=100)} if ended else {})
