"""Continuations beside the truth: a planted copy is found, lengths are kept, summaries count what they cover."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from hocket.codec import load_codec
from hocket.data import Corpus
from hocket.errors import InputError
from hocket.evaluation.continuations import (
    CONTINUATION,
    ORIGINAL,
    RATE,
    RESYNTHESIS,
    CopyCheck,
    Excerpts,
    Passage,
    Rated,
    choose,
    continue_clips,
    decode,
    log_mels,
    rate,
    read_recording,
    summarise,
    table,
    true_passages,
)
from hocket.evaluation.copying import Nearest
from hocket.inference import Generator, Sampling
from hocket.model import load_model

EXCERPTS = Excerpts(prompt_seconds=1.0, least_seconds=1.0, most_seconds=2.0)


@pytest.fixture(scope="module")
def codec():
    return load_codec("bundled")


@pytest.fixture(scope="module")
def corpus(runs_folder):
    return Corpus.open(runs_folder / "bundled-corpus")


@pytest.fixture(scope="module")
def copies(corpus, codec):
    """The check against eight training clips."""
    train = corpus.split("train")
    return CopyCheck([train[i] for i in np.flatnonzero(train.lengths["audio"] > 50)[:8]], codec)


def passage(codec, codes_TK, kind=CONTINUATION) -> Passage:
    wav_S = decode(codec, codes_TK.astype(np.int64))
    return Passage(clip="x", kind=kind, seed=0, prompt_S=wav_S[:RATE], wav_S=wav_S, codes_TK=codes_TK)


def test_a_planted_copy_is_found_with_its_clip_and_place(copies, corpus, codec):
    train = corpus.split("train")
    source = next(e for e in train if e.id == copies.ids[5])
    own_TK = np.array(corpus.split("valid")[0].streams["audio"][:40])
    planted_TK = np.concatenate([own_TK[:15], source.streams["audio"][12:45], own_TK[15:]])
    found = copies(passage(codec, planted_TK))
    assert found["codes"].score == 1
    assert copies.ids[found["codes"].clip] == source.id
    assert found["codes"].clip_frame - found["codes"].frame == 12 - 15
    assert copies.ids[found["sound"].clip] == source.id
    assert abs(found["sound"].clip_frame - found["sound"].frame + 2 * 3) <= 1
    assert -found["sound"].score < 1  # dB


def test_what_was_not_trained_on_is_farther_away(copies, corpus, codec):
    held_out = choose(corpus.split("valid"), codec, EXCERPTS)[0]
    found = copies(passage(codec, held_out.streams["audio"][:60]))
    assert found["codes"].score < 0.5
    assert -found["sound"].score > 3


def test_clips_are_cut_after_their_prompts(corpus, codec):
    examples = choose(corpus.split("valid"), codec, EXCERPTS)
    passages = true_passages(codec, examples, EXCERPTS)
    assert {p.kind for p in passages} <= {ORIGINAL, RESYNTHESIS}
    for one in passages:
        assert len(one.prompt_S) == RATE
        assert 1.0 <= one.seconds <= 2.0
    with pytest.raises(InputError, match=r"no held-out clip has 60 s after a prompt of 1 s"):
        choose(corpus.split("valid"), codec, replace(EXCERPTS, least_seconds=60))


def test_recordings_are_read_where_they_are(corpus, speech_file):
    example = corpus[0]
    assert read_recording(replace(example, audio="nowhere.wav"), 100) is None
    wav_S = read_recording(replace(example, audio=str(speech_file), start=0.5), RATE)
    assert wav_S is not None
    assert wav_S.tolist() == [0.5] * (RATE // 2) + [0.0] * (RATE // 2)


@pytest.fixture
def speech_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.5, np.float32), RATE)
    return tmp_path / "a.wav"


def test_a_model_continues_each_clip_by_several_seeds(run_folder, corpus, codec):
    generator = Generator(load_model(run_folder))
    examples = choose(corpus.split("valid"), codec, EXCERPTS)[:2]
    prompts = {e.id: np.zeros(RATE, np.float32) for e in examples}
    passages = continue_clips(generator, examples, prompts, EXCERPTS, 2, Sampling())
    assert [(p.clip, p.seed) for p in passages] == [(e.id, seed) for e in examples for seed in range(2)]
    assert passages[0].wav_S.tolist() != passages[1].wav_S.tolist()
    for one in passages:
        assert 1.0 <= one.seconds <= 2.0
        assert one.codes_TK is not None
        assert len(one.wav_S) == len(one.codes_TK) * codec.hop


def test_a_summary_counts_what_lies_beyond_the_truth():
    silence_S = np.zeros(RATE, np.float32)

    def rated(kind, score, mos):
        nearest = Nearest(score=score, clip=0, clip_frame=0, frame=0, window=25)
        one = Passage(clip="x", kind=kind, seed=0, prompt_S=silence_S, wav_S=silence_S, codes_TK=None)
        return Rated(passage=one, scores={"dnsmos": mos} if mos else {}, copies={"codes": nearest})

    truth, made = [rated(RESYNTHESIS, s, 3) for s in (0.2, 0.3)], [rated(CONTINUATION, s, s) for s in (0, 0.3, 0.9)]
    first, second = summarise([*made, *truth])
    assert (first.kind, first.n, first.beyond) == (RESYNTHESIS, 2, {"codes": 0})
    assert (second.kind, second.n, second.beyond) == (CONTINUATION, 3, {"codes": 1})
    assert second.means["dnsmos"][0] == pytest.approx(0.6)
    assert second.means["dnsmos"][2] == 2


def test_word_errors_are_those_of_all_words_together():
    one = Passage(clip="x", kind=ORIGINAL, seed=None, prompt_S=np.zeros(9), wav_S=np.zeros(9), codes_TK=None, text="a")
    rated = [Rated(passage=one, scores={"wrong": wrong, "words": words}) for wrong, words in ((1, 1), (0, 9))]
    summaries = summarise(rated)
    assert summaries[0].means["wer"][0] == pytest.approx(10)
    assert table(summaries).splitlines()[2] == "| original | 2 | 0 | 10.0 |  |"


def test_judges_hear_the_prompt_and_what_follows():
    def judge(heard):
        return {"similarity": float(heard.original_S[0] - heard.output_S[0])}

    one = Passage(clip="x", kind=ORIGINAL, seed=None, prompt_S=np.ones(9), wav_S=np.zeros(9), codes_TK=None)
    assert rate(one, {"similarity": judge}).scores == {"similarity": 1.0}


def test_mel_frames_of_less_than_a_frame_are_none():
    assert log_mels(np.zeros(319, np.float32)).shape == (0, 40)
    assert log_mels(np.zeros(640, np.float32)).tolist() == [[-40.0] * 40] * 2
