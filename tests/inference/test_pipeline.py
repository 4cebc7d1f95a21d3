"""Cascades: what their stages need is checked, an oracle's rule goes through all of them, and sound comes out."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from hocket.codec import load_codec
from hocket.codec.units import UnitCodec, pooled
from hocket.codec.units.mfcc import Mfcc
from hocket.errors import InputError
from hocket.inference import Request, Sampling
from hocket.inference.cascade import CascadeStage
from hocket.inference.clock import Clock, windows
from hocket.inference.masking import MaskSampling
from hocket.inference.pipeline import Pipeline, PipelineRequest
from hocket.vocab import train_bpe
from tests.inference.cascades import (
    CASCADES,
    LEVELS,
    TOKENIZER,
    WITH_TEXT,
    first_code,
    follow_rule,
    levels_above,
    rule,
    save_cascade,
    save_stage,
    units_identity,
)

CODES, UNITS = 20, 60
GREEDY = Sampling(temperature=0)
CONTEXTS = {"audiolm": 64, "soundstorm": 16}
UNIT_CASCADES = [("audiolm", 640), ("audiolm", 320), ("soundstorm", 640)]  # 25 and 50 units a second


@pytest.fixture(scope="module")
def speech():
    """A second of something that is not silent."""
    return torch.randn(16000, generator=torch.Generator().manual_seed(0)) * 0.1


def some_units(n: int) -> UnitCodec:
    extractor = pooled(Mfcc(), 2)
    return UnitCodec(extractor, torch.randn(n, extractor.width, generator=torch.Generator().manual_seed(1)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All four cascades over all codes of the bundled codec, and units that can be found; built once."""
    folder = tmp_path_factory.mktemp("whole")
    codec = some_units(200)
    codec.save(folder / "units")
    made: dict[str, Pipeline] = {}

    def build(name: str) -> Pipeline:
        if name not in made:
            found = {"units": codec.identity, "units_source": str(folder / "units"), "codes": 1024, "context": 400}
            made[name] = Pipeline.open(save_cascade(folder / name, name, **found))
        return made[name]

    return build


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [(25, 25), (Fraction(25, 2), 50), (75, 50), (Fraction(11025, 128), 50)])
def test_ticks_and_frames_are_inverse(rates):
    clock = Clock({"audio": Fraction(rates[0]), "semantic": Fraction(rates[1])})
    for ticks in range(300):
        for name in clock.rates:
            assert clock.ticks(name, clock.frames(name, ticks)) == ticks
            assert clock.frames(name, clock.ticks(name, ticks)) <= ticks


def test_windows_overlap_and_cover_all():
    assert list(windows(4, 12, 6, 2)) == [(0, 6), (4, 10), (6, 12)]
    assert list(windows(9, 13, 6, 2)) == [(7, 13)]
    assert list(windows(3, 5, 6, 2)) == [(0, 5)]
    assert list(windows(5, 5, 6, 2)) == []


# --- the rule ---------------------------------------------------------------------------------------------------------


def open_cascade(folder, name: str, spec: str | None = None, **changes) -> Pipeline:
    pipeline = Pipeline.open(spec or save_cascade(folder, name, **changes))
    follow_rule(pipeline)
    return pipeline


def prompted(pipeline: Pipeline, start: int, n_prompt: int, n_more: int, ratio: Fraction, seed=0) -> PipelineRequest:
    """A prompt by the rule, but for its upper levels, which are any codes: they must stay."""
    semantic_T1, audio_TK = rule(start, n_prompt, UNITS, CODES, ratio)
    audio_TK[:, 1:] = np.random.default_rng(seed).integers(0, CODES, audio_TK[:, 1:].shape)
    prompts = {"audio": audio_TK} | ({"semantic": semantic_T1} if "semantic" in pipeline.outputs else {})
    return PipelineRequest(prompts=prompts, prompt_ticks=n_prompt, ticks=n_prompt + n_more, seed=seed)


def expected(request: PipelineRequest, start: int, n_frames: int, ratio: Fraction) -> tuple[np.ndarray, np.ndarray]:
    semantic_T1, audio_TK = rule(start, n_frames, UNITS, CODES, ratio)
    n = len(request.prompts["audio"])
    audio_TK[:n] = request.prompts["audio"]
    return semantic_T1, audio_TK


@pytest.mark.parametrize(("name", "hop"), UNIT_CASCADES)
def test_the_rule_goes_through_units_and_audio(tmp_path, name, hop):
    """Prompts of several lengths and none in one batch; some end before the limit, some do not."""
    pipeline = open_cascade(tmp_path, name, units=units_identity(hop, UNITS), context=256)
    ratio = Fraction(640, hop)
    asked = [(5, 0, 8), (5, 4, 9), (20, 2, 6), (50, 1, 20)]
    requests = [prompted(pipeline, start, n, more, ratio, seed) for seed, (start, n, more) in enumerate(asked)]
    requests[0] = replace(requests[0], prompts={})
    together = pipeline.generate_batch(requests, GREEDY)
    for number, (start, n, more) in enumerate(asked):
        start = start if n else first_code([])
        request = replace(
            requests[number], prompts=requests[number].prompts or prompted(pipeline, 0, 0, 1, ratio).prompts
        )
        semantic_T1, audio_TK = expected(request, start, n + more, ratio)
        assert np.array_equal(together[number].streams["semantic"], semantic_T1)
        assert np.array_equal(together[number].streams["audio"], audio_TK)
        assert together[number].ended == (len(audio_TK) < n + more)
        assert len(together[number].full_wav_T) == 640 * len(audio_TK)


@pytest.mark.parametrize(("name", "hop"), UNIT_CASCADES)
def test_long_audio_goes_by_windows(tmp_path, name, hop):
    """Contexts hold a few frames; every window but the first goes on from the one before."""
    ratio = Fraction(640, hop)
    pipeline = open_cascade(tmp_path, name, units=units_identity(hop, UNITS), context=CONTEXTS[name])
    seen = spy(pipeline)
    for n_prompt, more in ((0, 24), (3, 21), (18, 5)):
        request = prompted(pipeline, 5 if n_prompt else 3, n_prompt, more, ratio)
        out = pipeline.generate_batch([request], GREEDY)[0]
        semantic_T1, audio_TK = expected(request, 5 if n_prompt else 3, n_prompt + more, ratio)
        assert np.array_equal(out.streams["semantic"], semantic_T1)
        assert np.array_equal(out.streams["audio"], audio_TK)
    starts = {name: [requests[0].start for requests, _ in calls] for name, calls in seen.items()}
    long = [name for name, calls in seen.items() if len(calls) > 3]
    assert long
    for name in long:
        assert set(starts[name]) == {"<bos>", "<cont>"}


def spy(pipeline: Pipeline) -> dict[str, list[tuple[list[Request], dict]]]:
    """Keeps what each stage is asked for."""
    seen: dict[str, list[tuple[list[Request], dict]]] = {name: [] for name in pipeline.stages}

    def watch(stage: CascadeStage) -> None:
        own = stage.generator.sample

        def sample(requests, **how):
            seen[stage.name].append((requests, how))
            return own(requests, **how)

        stage.generator.__dict__["sample"] = sample

    for stage in pipeline.parts:
        watch(stage)
    return seen


def test_windows_are_as_long_as_is_said(tmp_path):
    paths = save_cascade(tmp_path, "audiolm", context=256).split(",")
    stages: list[dict] = [{"checkpoint": path} for path in paths]
    stages[1] |= {"window": 0.4, "overlap": 0.16, "name": "coarse"}
    spec = {"stages": stages}
    (tmp_path / "own.yaml").write_text(json.dumps(spec))
    pipeline = open_cascade(tmp_path, "audiolm", tmp_path / "own.yaml")
    seen = spy(pipeline)
    out = pipeline.generate_batch([prompted(pipeline, 3, 0, 24, Fraction(1))], GREEDY)[0]
    assert np.array_equal(out.streams["audio"], rule(3, 24, UNITS, CODES, Fraction(1))[1])
    requests = [requests[0] for requests, _ in seen["coarse"]]
    assert [request.limits["audio"] for request in requests] == [10, 10, 10, 10]
    assert [len(request.prompts["audio"]) for request in requests] == [0, 4, 4, 8]
    assert [request.ends for request in requests] == [False, False, False, True]


@pytest.mark.parametrize("name", WITH_TEXT)
@pytest.mark.parametrize("n_prompt", [0, 3])
def test_the_rule_goes_from_text_to_audio(tmp_path, name, n_prompt):
    pipeline = open_cascade(tmp_path, name, units=units_identity(640, UNITS))
    request = replace(prompted(pipeline, 9, n_prompt, 8, Fraction(1)), text="bacab")
    out = pipeline.generate_batch([request], GREEDY)[0]
    start = 9 if n_prompt else first_code(TOKENIZER.encode("bacab"))
    if name == "bark":
        _, audio_TK = expected(request, start, n_prompt + 8, Fraction(1))
    else:
        first = request.prompts["audio"][-1, 0] + 1 - n_prompt if n_prompt else start
        level_T = np.arange(first, min(CODES, first + n_prompt + 8))
        audio_TK = levels_above(level_T, CODES)
        audio_TK[:n_prompt] = request.prompts["audio"]
    assert np.array_equal(out.streams["audio"], audio_TK)
    assert out.text == "bacab"


# --- sound ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASCADES)
def test_a_cascade_goes_from_wav_to_wav(whole, speech, name):
    pipeline = whole(name)
    text = {"text": "abc", "prompt_text": "cab"} if name in WITH_TEXT else {}
    told: list[tuple[int, int]] = []
    request = pipeline.request(speech, seconds=0.4, prompt_seconds=0.6, seed=1, **text)
    one, other = pipeline.generate_batch(
        [request, replace(request, seed=2)], Sampling(top_k=50), lambda *at: told.append(at)
    )
    again = pipeline.generate(speech, seconds=0.4, prompt_seconds=0.6, seed=1, sampling=Sampling(top_k=50), **text)
    assert np.array_equal(one.streams["audio"], again.streams["audio"])
    assert torch.equal(one.full_wav_T, again.full_wav_T)
    assert not np.array_equal(one.streams["audio"], other.streams["audio"])
    codes = load_codec("bundled").encode(speech[None, :9600], 16000).tokens_BTK[0, : len(one.prompt_codes_TK), :LEVELS]
    assert np.array_equal(one.prompt_codes_TK, codes.numpy())
    assert len(one.full_wav_T) == 640 * len(one.streams["audio"])
    assert 0 < len(one.codes_TK) <= 10
    assert torch.isfinite(one.full_wav_T).all()
    drawn = ~np.isnan(one.log_probabilities["audio"])
    assert not drawn[: len(one.prompt_codes_TK)].any()
    assert drawn[len(one.prompt_codes_TK) :].all()
    assert told[-1][0] == told[-1][1]
    assert all(a[0] <= b[0] for a, b in zip(told, told[1:], strict=False))
    assert one.text == ("cab abc" if text else None)


def test_long_recordings_are_decoded_in_pieces(whole, monkeypatch):
    generator = whole("audiolm").parts[-1].generator
    codes_TK = np.random.default_rng(0).integers(0, 1024, (40, LEVELS))
    at_once = generator.decode(codes_TK)
    monkeypatch.setattr("hocket.inference.generator.LONG", 9)
    assert torch.equal(generator.decode(codes_TK), at_once)


def test_settings_of_a_pipeline_and_of_its_stages(tmp_path, whole):
    paths = [stage.settings.checkpoint for stage in whole("soundstorm").parts]
    spec = {
        "stages": [
            {"checkpoint": paths[0], "sampling": {"temperature": 0.5}},
            {"checkpoint": paths[1], "masked": {"steps": [4, 2], "choice_temperature": 0}},
        ]
    }
    (tmp_path / "own.yaml").write_text(json.dumps(spec))
    pipeline = Pipeline.open(tmp_path / "own.yaml")
    assert pipeline.stages == ("0-semantic", "1-soundstorm")
    assert pipeline.outputs == ("audio", "semantic")
    held = json.loads(json.dumps(pipeline.settings))
    assert held["stages"][1]["masked"]["steps"] == [4, 2]
    assert held["codecs"]["audio"]["name"] == "bundled"
    used = spy(pipeline)
    general = Sampling(top_k=9, repetition_window=3, rows={"audio.0": {"top_k": 2}})
    pipeline.generate(seconds=0.4, sampling=general)
    (_, semantic), (_, audio) = (used[name][0] for name in pipeline.stages)
    assert semantic["sampling"] == Sampling(temperature=0.5, top_k=9, repetition_window=3)
    assert audio["sampling"] == Sampling(top_k=9, rows={"audio.0": {"top_k": 2}})
    assert audio["masks"] == MaskSampling(steps=(4, 2), choice_temperature=0)
    assert "masks" not in semantic


def test_streams_from_the_user_are_spoken(whole):
    """Units that are given, by SoundStorm alone."""
    pipeline = Pipeline.open(whole("soundstorm").parts[1].settings.checkpoint, given=("semantic",))
    out = pipeline.generate(streams={"semantic": np.arange(7)[:, None]})
    assert out.streams["audio"].shape == (7, LEVELS)
    with pytest.raises(InputError, match="the pipeline is given semantic"):
        pipeline.request()


@pytest.mark.parametrize("name", ["audiolm", "valle"])
def test_no_stage_ends_before_the_least_length(whole, name):
    arguments = {"text": "abc"} if name == "valle" else {}
    for seed in range(3):
        out = whole(name).generate(seconds=0.8, min_seconds=0.8, seed=seed, **arguments)
        assert len(out.streams["audio"]) == 20


# --- what is refused --------------------------------------------------------------------------------------------------


def refuse(folder, sentence: str, *stages: tuple[str, dict]) -> None:
    paths = [save_stage(folder / str(number), preset, **changes) for number, (preset, changes) in enumerate(stages)]
    with pytest.raises(InputError, match=sentence) as caught:
        Pipeline.open(",".join(paths))
    assert "\n" not in str(caught.value)


OTHER_CODEC = replace(load_codec("bundled").identity, weight_hash="1")
SEMANTIC, COARSE, FINE = CASCADES["audiolm"]
MISMATCHES = {
    "both make semantic: leave one out": [(SEMANTIC, {}), (SEMANTIC, {})],
    '"1" is given semantic, which no stage before it makes': [("valle/ar", {}), (COARSE, {})],
    '"0" is given semantic, which stage "1" makes only later: put "1" before "0"': [(COARSE, {}), (SEMANTIC, {})],
    r'"2" is given audio\[0:4\], but the stages before it make only audio\[0:2\]': [
        (SEMANTIC, {}),
        ("bark/coarse", {}),
        (FINE, {}),
    ],
    r'stage "1" and stage "2" both make audio\[2:4\]': [(SEMANTIC, {}), (COARSE, {}), ("bark/fine", {})],
    '"semantic" of stage "0" and of stage "1" have 500 and 200 codes in level 0': [
        (SEMANTIC, {"units": units_identity(units=500)}),
        (COARSE, {"units": units_identity(units=200)}),
    ],
    '"semantic" of stage "0" and of stage "1" run at 25 and 50 frames a second': [
        (SEMANTIC, {"units": units_identity(640)}),
        (COARSE, {"units": units_identity(320)}),
    ],
    '"semantic" of stage "0" and of stage "1" are codes of two codecs: "fake-units" with fingerprint': [
        (SEMANTIC, {"units": replace(units_identity(), weight_hash="6")}),
        (COARSE, {}),
    ],
    '"audio" of stage "1" and of stage "2" are codes of two codecs: "bundled" with fingerprint': [
        (SEMANTIC, {}),
        (COARSE, {}),
        (FINE, {"audio": OTHER_CODEC}),
    ],
}


@pytest.mark.parametrize("sentence", MISMATCHES)
def test_stages_that_do_not_fit_together(tmp_path, sentence):
    refuse(tmp_path, sentence, *MISMATCHES[sentence])


def test_text_goes_between_tokenizers_and_levels_may_be_cut(tmp_path):
    """Each stage encodes the text for itself; a stage that learned fewer levels of the codec has the same codes."""
    stages = [("valle/ar", {"levels": 2}), ("valle/nar", {"tokenizer": train_bpe(["abcabc"] * 9, 259)})]
    paths = [save_stage(tmp_path / str(number), preset, **how) for number, (preset, how) in enumerate(stages)]
    pipeline = Pipeline.open(",".join(paths))
    out = pipeline.generate(text="abc", seconds=0.4, min_seconds=0.4)
    assert out.streams["audio"].shape == (10, LEVELS)
    lengths = {len(pipeline.generate(text="abc", seconds=0.4, seed=seed).streams["audio"]) for seed in range(12)}
    assert 0 in lengths  # the first stage may end at once, and nothing is left to fill in


def test_checkpoints_that_know_of_one_codec_only(tmp_path):
    """Those of older hockets: fingerprints in the vocabulary tell the other streams' codecs."""
    spec = save_cascade(tmp_path / "a", "audiolm")
    other = save_stage(tmp_path / "b", SEMANTIC, units=replace(units_identity(), weight_hash="6"))
    for path in (*spec.split(","), other):
        file = tmp_path / path / "config.json"
        content = json.loads(file.read_text())
        del content["codecs"]
        file.write_text(json.dumps(content))
    pipeline = Pipeline.open(spec)
    assert pipeline.clock.rates == {"semantic": 25, "audio": 25}
    with pytest.raises(InputError, match=r'codes of two codecs: "fake-units" with fingerprint .* and unnamed with'):
        Pipeline.open(",".join([other, *spec.split(",")[1:]]))


REQUESTS = [
    ("audiolm", {"text": "abc"}, "no stage of the pipeline reads a given text"),
    ("valle", {}, 'stage "0-ar" speaks a text'),
    ("valle", {"text": "abc", "prompt_text": "a"}, "there is no prompt"),
    ("valle", {"text": "abc", "seconds": 60}, r'stage "0-ar" reads text whole.*ask for at most 1[45]'),
    ("audiolm", {"seconds": 0}, "seconds must be more than 0"),
    ("audiolm", {"task": "tts"}, "leave out task=tts"),
    ("audiolm", {"seconds": 1, "min_seconds": 2}, "min_seconds must be from 0 to the seconds"),
    ("audiolm", {"overlap": 1}, "leave overlap out"),
    ("audiolm", {"streams": {"semantic": np.zeros((3, 1))}}, 'no stage needs "semantic" from outside'),
]


@pytest.mark.parametrize(("name", "arguments", "sentence"), REQUESTS)
def test_requests_that_do_not_fit(whole, name, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        whole(name).request(**arguments)


def test_a_prompt_whose_units_cannot_be_made(tmp_path, speech):
    spec = save_cascade(tmp_path, "audiolm")
    with pytest.raises(InputError, match=r'encoded as "semantic": .*; add semantic=FOLDER to the checkpoints'):
        Pipeline.open(spec).request(speech)
    some_units(60).save(tmp_path / "units")
    with pytest.raises(InputError, match=r'learned as codes of codec "fake-units" with fingerprint .* is '):
        Pipeline.open(f"{spec},semantic={tmp_path}/units").request(speech)


FILES = [
    ("stages: [{checkpoint: a, windows: 3}]", 'unknown key "windows"'),
    ("stages: []", "describes no pipeline"),
    ("[1, 2]", "describes no pipeline"),
    ("stages: [3]", "a stage is written as"),
    ("stage: [{checkpoint: a}]\nstages: [{checkpoint: a}]", 'unknown key "stage"'),
    ("stages: [{checkpoint: a, sampling: {temprature: 1}}]", 'no setting "temprature"'),
    ("stages: [{checkpoint: a, sampling: {top_p: 3}}]", "top_p must be"),
    ("stages: [{checkpoint: a, window: 1, overlap: 2}]", "longer than its overlap"),
    ("stages: [{checkpoint: a, window: x}]", "window is a number of seconds"),
    ("stages: [{checkpoint: a, name: x}, {checkpoint: b, name: x}]", 'two stages are named "x"'),
    ("stages: [{checkpoint: nowhere}]", "no hocket checkpoint"),
    ("stages: [{checkpoint: a}", "is no YAML"),
]


@pytest.mark.parametrize(("content", "sentence"), FILES)
def test_files_that_are_no_pipelines(tmp_path, content, sentence):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(InputError, match=sentence) as caught:
        Pipeline.open(tmp_path / "own.yaml")
    assert "\n" not in str(caught.value)


def test_settings_that_concern_no_stage(whole):
    pipeline = whole("audiolm")
    with pytest.raises(InputError, match="there are no masks to set"):
        pipeline.generate(seconds=0.1, masks=MaskSampling())
    with pytest.raises(InputError, match='no stage of the pipeline has "user"'):
        pipeline.generate(seconds=0.1, sampling=Sampling(rows={"user": {"top_k": 2}}))
