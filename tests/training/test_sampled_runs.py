"""Every stage of every preset trains as the tiny recipe, is sampled from real speech and text, and becomes sound."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hocket.codec import read_audio
from hocket.data import Corpus, Mixture
from hocket.evaluation.runs import open_corpus, read_run
from hocket.inference import Generator, Request
from hocket.model import load_model
from hocket.training import bundled
from hocket.vocab import ALIGNED_TEXT, TEXT
from tests.training.test_bundled_layouts import FAST, STAGES, few_clips, train

SHORT = ["training.steps=2", "training.save_every=2", "data.batch_steps=512"]
FRAMES, PROMPT_FRAMES = 10, 15


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of runs, with a bundled speech of 60 short clips, of which the corpora are made once."""
    folder = tmp_path_factory.mktemp("sampled")
    with pytest.MonkeyPatch.context() as patch:
        few_clips(folder, patch)
        yield folder / "runs"


def spoken() -> dict:
    """A clip of the bundled speech that is long enough to begin with."""
    rows = [json.loads(line) for line in Path(bundled.BUNDLED).read_text(encoding="utf-8").splitlines()]
    return next(row for row in rows if row.get("text") and row["duration"] > 1.5)


def ask(generator: Generator, corpus: Corpus | Mixture) -> Request:
    """By the front door: text, a recording, and codes of an example for what else is given."""
    row, codes = spoken(), corpus[0].streams
    wav_T, rate = read_audio(row["audio"])
    wants_text = generator.text_is_given or generator.tasks[0] == "tts"
    further = {
        name: np.asarray(codes[name])[: FRAMES + PROMPT_FRAMES, :n]
        for name, n in generator.given.items()
        if name not in (TEXT, ALIGNED_TEXT, "source")
    }
    return generator.request(
        wav_T if generator._heard(generator.tasks[0]) else None,
        row["text"] if wants_text else None,
        seconds=FRAMES / 25,
        sample_rate=rate,
        prompt_seconds=PROMPT_FRAMES / 25,
        streams=further,
        seed=1,
    )


@pytest.mark.parametrize(
    ("preset", "stage"),
    [pytest.param(*names, marks=() if names in FAST[:2] else pytest.mark.slow) for names in STAGES],
)
def test_a_preset_trains_is_sampled_and_heard(runs, preset, stage):
    result = train(runs, preset, stage, *SHORT)
    model = load_model(result.folder)
    generator = Generator(model)
    request = ask(generator, open_corpus(read_run(result.folder)))
    out, again = generator.generate_batch([request, request])
    for name, codes_TK in out.streams.items():
        assert np.array_equal(codes_TK, again.streams[name])
        assert ((codes_TK >= 0) & (codes_TK < model.vocabulary.sizes(name)[: codes_TK.shape[1]])).all()
        for known in (request.given.get(name), request.prompts.get(name)):
            if known is not None:
                assert np.array_equal(codes_TK[: len(known), : known.shape[1]], known)
    assert generator.audio is None or len(out.codes_TK) <= request.limits.get(generator.audio, 0)
    n_frames = len(out.prompt_codes_TK) + len(out.codes_TK)
    assert len(out.full_wav_T) == (n_frames * model.codec.hop if generator.is_heard else 0)
    assert torch.isfinite(out.full_wav_T).all()
    assert out.ended or n_frames or out.text is not None
