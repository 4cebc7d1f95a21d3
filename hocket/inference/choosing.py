"""The best of several attempts: a model that speaks and recognises hears itself, and keeps what it understands best.

    "three one" ──▶ attempt 0 ──▶ log p(three one | what was said)  -4.1
                ──▶ attempt 1 ──▶                                    -0.2   ◀ kept
                ──▶ attempt 2 ──▶                                    -1.7

Attempts are made together, each with a seed of its own, so that the first is the one that a single attempt would be.
The score is the log-probability of the text and its end in the document that has the audio first and the text after it,
from one pass of the model over all attempts.

Shapes: N steps of packed documents, R rows, M cells, J legal ids, T frames, K levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from hocket.data.loading import Batch
from hocket.errors import InputError
from hocket.inference.request import Request
from hocket.interleave.plan import Plan
from hocket.model import Model
from hocket.vocab import TEXT


def attempts(request: Request, n: int) -> list[Request]:
    """The request n times, each with a seed of its own; the first is the request itself."""
    words = [np.random.SeedSequence((request.seed % 2**64, i)).generate_state(1, np.uint64)[0] >> 1 for i in range(n)]
    return [request if i == 0 else replace(request, seed=int(word)) for i, word in enumerate(words)]


def check_best_of(model: Model, n: int) -> None:
    """InputError unless n attempts can be compared by a model."""
    if n < 1:
        raise InputError(f"best_of must be at least 1, not {n}")
    nodes = model.layout.span_nodes()
    if n > 1 and not (nodes and nodes[0].spans == "either"):
        raise InputError(
            f'best_of needs a model that recognises what it speaks, with spans="either", which {model.layout} is not: '
            "leave it out, or train interleave=speech-text"
        )


@torch.inference_mode()
def score_texts(model: Model, spoken: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Log-probability of each text after its audio, end included: float64 `[documents]`.

    Args:
        spoken: codes `[T, K]` by stream, text among them.
    """
    plans = [_plan(model, streams) for streams in spoken]
    ids, legal = [], []
    for plan, streams in zip(plans, spoken, strict=True):
        ids.append(torch.from_numpy(plan.interleave(dict(streams), model.vocabulary)))
        is_text_TR = torch.from_numpy(plan.stream_TR == list(plan.levels).index(TEXT))
        legal.append(torch.from_numpy(plan.legal_TR.astype(np.int64)) * is_text_TR)
    bounds = torch.tensor([0, *(plan.n_steps for plan in plans)]).cumsum(0)
    legal_NR = torch.cat(legal)
    batch = Batch(torch.cat(ids), legal_NR, (legal_NR > 0).float(), bounds, [""] * len(plans), 0).to(model.device)
    scores = torch.zeros(len(plans), dtype=torch.float64)
    for index, step_M, row_M, log_probability_MJ in model.distributions(batch):
        position_M = model.head.legal_sets[index].position(batch.ids_NR[step_M, row_M])
        found_M = log_probability_MJ.gather(1, position_M[:, None])[:, 0].double().cpu()
        scores.index_add_(0, torch.searchsorted(bounds, step_M.cpu(), right=True) - 1, found_M)
    return scores.numpy()


def _plan(model: Model, streams: Mapping[str, np.ndarray]) -> Plan:
    """The document in which all else comes before the text."""
    lengths = {name: len(codes) for name, codes in streams.items()}
    turns = [(name, 0, n) for name, n in lengths.items() if name != TEXT] + [(TEXT, 0, lengths[TEXT])]
    return model.layout.plan(lengths, given=model.given, spans=turns)
