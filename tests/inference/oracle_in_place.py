"""Tiny models that predict in place, requests for them, and an oracle that follows a rule.

Shapes: N steps, R rows, T frames, K levels, M cells, J legal ids.
"""

import numpy as np
import torch

from hocket.codec import CodecIdentity
from hocket.inference import Request
from hocket.interleave import Stage, load_layout, load_stage
from hocket.model import Model
from hocket.vocab import Vocabulary, train_bpe
from tests.conftest import CODES, TINY

LEVELS = 4
RATES = {"audio": 25, "semantic": 25}
EXPRESSIONS = [
    "Parallel(audio)",
    "Delay(audio)",
    "Flatten(audio)",
    "Repeat(audio, 3/2)",
    "Stack(Lead(Repeat(semantic, 2)), Parallel(audio))",
    "Concat(Text(text), Repeat(audio, 2))",
]
PRESETS = {"soundstorm": None, "magnet": None, "valle": "nar", "bark": "fine"}
STAGES = [*EXPRESSIONS, *PRESETS]


def stage_of(name: str, levels: int = LEVELS) -> Stage:
    if name in PRESETS:
        path = name if PRESETS[name] is None else f"{name}/{PRESETS[name]}"
        return load_stage(path, {"audio": levels, "semantic": 1}, RATES)
    layout = load_layout(name, levels={"audio": levels, "semantic": 1}, frame_rates=RATES)
    given = tuple(stream for stream in layout.streams if stream != "audio")
    return Stage(name="", layout=layout, given=given, objective="masked", attention="bidirectional")


def build(name: str, levels: int = LEVELS, **changes) -> Model:
    sizes = (CODES,) * levels
    identity = CodecIdentity(
        name="fake", revision="1", weight_hash="0", sample_rate=16000, hop=640, codebook_sizes=sizes
    )
    vocabulary = Vocabulary.build(train_bpe(["abc"], 256), {"audio": sizes, "semantic": (CODES,)})
    config = type(TINY)(**{**TINY.__dict__, **changes})
    return Model.build(config, vocabulary, stage_of(name, levels), identity).eval()


def request_of(model: Model, n_frames: int, n_prompt: int, seed: int = 0) -> Request:
    """Random conditions and a random prompt."""
    rng, fixed = np.random.default_rng([seed, n_frames]), model.layout.find_levels(model.given)
    n_given = sum(("audio", k) in fixed for k in range(LEVELS))
    given = {"audio": rng.integers(0, CODES, (n_frames, n_given))} if n_given else {}
    if "semantic" in model.layout.streams:
        given["semantic"] = rng.integers(0, CODES, (n_frames, 1))
    if "text" in model.layout.streams:
        given["text"] = rng.integers(0, 200, (n_frames // 2 + 1, 1))
    prompt_TK = rng.integers(0, CODES, (n_prompt, LEVELS))
    prompt_TK[:, :n_given] = given.get("audio", prompt_TK)[:n_prompt, :n_given]
    limits = {} if n_given else {"audio": n_frames}
    return Request(given=given, prompts={"audio": prompt_TK} if n_prompt else {}, limits=limits, seed=seed)


def rule(codes_TK: np.ndarray, level: int, condition: np.ndarray) -> np.ndarray:
    """What a level holds, `[T]`: level 0 from the condition and the place, others from this and the next frame of the
    level below."""
    t = np.arange(len(codes_TK))
    if level == 0:
        return (3 * t + (condition[t % len(condition)] if len(condition) else 0)) % CODES
    below_T = codes_TK[:, level - 1]
    return (below_T + 2 * np.roll(below_T, -1) + level) % CODES


def condition_of(streams: dict[str, np.ndarray]) -> np.ndarray:
    return next((codes[:, 0] for name, codes in streams.items() if name != "audio"), np.zeros(0, np.int64))


def expected(model: Model, request: Request) -> np.ndarray:
    """The rule's codes, around what is given."""
    n_frames = request.limits.get("audio", len(request.given.get("audio", ())))
    codes_TK, known_TK = np.zeros((n_frames, LEVELS), np.int64), np.zeros((n_frames, LEVELS), bool)
    for source in (request.given, request.prompts):
        if "audio" in source:
            place = slice(len(source["audio"])), slice(source["audio"].shape[1])
            codes_TK[place], known_TK[place] = source["audio"], True
    condition = condition_of({n: c for n, c in request.given.items() if n != "audio"})
    for level in range(LEVELS):
        codes_TK[:, level] = np.where(known_TK[:, level], codes_TK[:, level], rule(codes_TK, level, condition))
    return codes_TK


class Oracle:
    """Stands in for a model's decoder and head: it reads the ids it is shown, and follows the rule.

    Where the rule needs a code that is masked, its answer is wrong. Each pass checks that levels below the one that is
    being filled in are there, and that those above are masked but for the prompt.
    """

    def __init__(self, model: Model, requests: list[Request]):
        self.model, self.requests = model, requests
        self.seen: list[list[np.ndarray]] = []  # audio ids `[T, K]` of each document in each pass
        self.n_rows: list[int] = []
        self.conditions: list[list[np.ndarray]] = []
        model.__dict__["decoder"] = self.decoder
        model.head.__dict__["logits"] = self.logits

    def decoder(self, ids_NR, starts):
        bounds, states = starts.tolist(), torch.zeros(len(ids_NR), len(self.model.head.legal_sets))
        self.seen.append([])
        self.conditions.append([])
        for b in range(len(bounds) - 1):
            request = self.requests[b % len(self.requests)]
            states[bounds[b] : bounds[b + 1]] = self.document(ids_NR[bounds[b] : bounds[b + 1]].numpy(), request)
        return states

    def document(self, ids_TR, request):
        model = self.model
        n_frames = request.limits.get("audio", len(request.given.get("audio", ())))
        lengths = {name: len(request.given.get(name, ())) or n_frames for name in model.layout.streams}
        plan = model.layout.plan(lengths, ended=model.stage.ended, given=model.given)
        assert (ids_TR.reshape(-1)[plan.copies[0]] == ids_TR.reshape(-1)[plan.copies[1]]).all()
        assert ids_TR.shape == plan.shape
        ids = plan.deinterleave(ids_TR)
        self.seen[-1].append(ids["audio"])
        self.conditions[-1].append(condition_of(ids))
        offsets = [model.vocabulary[f"audio.{k}"].start for k in range(LEVELS)]
        masks = np.array([model.vocabulary.id(f"<mask.audio.{k}>") for k in range(LEVELS)])
        masked_TK, codes_TK = ids["audio"] == masks, ids["audio"] - offsets
        assert (masked_TK | ((codes_TK >= 0) & (codes_TK < CODES))).all()
        level = int(masked_TK.any(axis=0).argmax())
        n_prompt = len(request.prompts.get("audio", ()))
        assert masked_TK[n_prompt:, level + 1 :].all()
        assert not masked_TK[:n_prompt].any()
        states_C = torch.zeros(ids_TR.size, len(model.head.legal_sets))
        condition = condition_of({n: request.given[n] for n in model.layout.streams if n != "audio"})
        answer_T = rule(codes_TK, level, condition) % CODES
        legal = model.layout.legal_cells.index(("audio", level))
        states_C[torch.tensor(plan.where["audio"][:, level]), legal] = torch.from_numpy(answer_T).float()
        return states_C.view(*plan.shape, -1).sum(dim=1)  # the level's code is in one row of a step, or steps differ

    def logits(self, x_MD, legal):
        self.n_rows.append(len(x_MD))
        return 5.0 * torch.nn.functional.one_hot(x_MD[:, legal].long(), CODES)
