"""Protocols with stand-in judges and models of random weights: what is made, kept, judged and summed up."""

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from hocket.codec import CodecIdentity, load_codec, read_audio
from hocket.errors import InputError
from hocket.evaluation.generation import (
    Continuation,
    Panel,
    Recognition,
    Speech,
    Template,
    Utterance,
    lend_voices,
    of_corpus,
    of_metalist,
    of_source,
    protocols_of,
    rate_outputs,
    run_continuation,
    run_recognition,
    run_tts,
)
from hocket.evaluation.generation.outputs import Made, Outputs
from hocket.evaluation.generation.summing import summarise
from hocket.inference import Generator, Sampling
from hocket.inference.pipeline import Pipeline
from hocket.interleave import load_stage
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary, train_bpe
from tests.inference.cascades import save_cascade

RATE, LEVELS = 16000, 2
UNITS = CodecIdentity(name="units", revision="1", weight_hash="5", sample_rate=RATE, hop=640, codebook_sizes=(9,))
SHORT = Continuation(prompt_seconds=0.4, least_seconds=0.8, most_seconds=2.0, batch=2)
TEXTS = ("one two three", "four five six", "seven eight nine")


class Ears:
    """Hears "one two" wherever there is sound, and "one" in less than a second."""

    name = "ears"

    def __init__(self):
        self.heard = 0

    def transcribe(self, wavs: Sequence[np.ndarray], language: str | None = None) -> list[str]:
        self.heard += len(wavs)
        return ["one two" if len(wav_S) >= RATE else "one" if len(wav_S) else "" for wav_S in wavs]


class Ends:
    """A voice is how loud a sound begins and ends."""

    name = "ends"

    def embed(self, wav_S: np.ndarray) -> np.ndarray | None:
        point_D = np.array([np.abs(wav_S[:100]).mean() + 1e-3, np.abs(wav_S[-100:]).mean() + 1e-3])
        return point_D / np.linalg.norm(point_D) if len(wav_S) else None


def make_panel(**more) -> Panel:
    qualities = {"dnsmos": lambda wav_S: float(len(wav_S)) if len(wav_S) else None}
    return Panel(recogniser=Ears(), voices={"similarity": Ends()}, qualities=qualities, **more)


def make_model(expression: str, seed: int = 0, **changes) -> Generator:
    audio = load_codec("bundled").identity.with_levels(LEVELS)
    rates = {"audio": audio.frame_rate, "semantic": UNITS.frame_rate, "user": audio.frame_rate}
    stage = load_stage(expression, {"audio": LEVELS, "semantic": 1, "user": LEVELS}, rates)
    identities = {"audio": audio, "semantic": UNITS, "user": audio}
    sizes = {name: identities[name].codebook_sizes for name in stage.layout.streams if name in identities}
    text = train_bpe([" ".join(TEXTS)], 256) if "text" in stage.layout.streams else None
    vocabulary = Vocabulary.build(text, sizes, {name: identities[name].fingerprint for name in sizes})
    sizes_of_model: dict = {"dim": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "ffn_dim": 16, "context": 128}
    config = ModelConfig(**sizes_of_model | changes)
    known = {name: identities[name] for name in sizes}
    model = Model.build(config, vocabulary, stage, audio, codec_source="bundled", codec_identities=known, seed=seed)
    return Generator(model.eval())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Three clips of 0.5, 1.0 and 1.2 s, and a list of Seed-TTS-eval of the last two."""
    folder, rows = tmp_path_factory.mktemp("speech"), []
    for number, seconds in enumerate((0.5, 1.0, 1.2)):
        random = np.random.default_rng(number)
        soundfile.write(folder / f"{number}.wav", 0.1 * random.standard_normal(round(seconds * RATE)), RATE)
        rows.append(
            {"id": f"a/{number}", "audio": f"{number}.wav", "text": TEXTS[number], "speaker": "x", "lang": "en"}
        )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "meta.lst").write_text("utt1|one|0.wav|four five six|1.wav\n\nutt2|one|0.wav|seven eight nine|2.wav\n")
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def utterances(manifest):
    return of_source(manifest)


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.*"))}


# --- what a model can be judged by ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "protocols"),
    [
        ("Delay(audio)", ("continuation",)),
        ("Concat(Text(text), Delay(audio))", ("tts", "continuation")),
        ("Concat(Delay(audio), Text(text))", ("recognition",)),
        ("soundstorm", ("revoice",)),
        ("speech-text", ("tts", "continuation", "recognition")),
    ],
)
def test_protocols_follow_from_the_layout(expression, protocols):
    assert protocols_of(make_model(expression)) == protocols


def test_a_model_that_cannot_is_refused(utterances, tmp_path):
    with pytest.raises(InputError, match=r"cannot be judged by tts, but by continuation"):
        run_tts(make_model("Delay(audio)"), utterances, tmp_path, make_panel())


# --- continuation -----------------------------------------------------------------------------------------------------


def test_continuations_go_on_to_the_length_of_recordings(utterances, tmp_path):
    panel, done = make_panel(), []
    found = run_continuation(
        make_model("Delay(audio)"), utterances, tmp_path, panel, replace(SHORT, n=2, may_end_after=10), Sampling(),
        on_progress=lambda n, total: done.append((n, total)),
    )  # fmt: skip
    kinds = {heard.kind: heard for heard in found.heard}
    assert {kind: heard.n for kind, heard in kinds.items()} == {"original": 2, "resynthesis": 2, "model": 4}
    assert {heard.protocol for heard in found.heard} == {"continuation"}
    metrics = kinds["model"].metrics
    assert "wer" not in metrics  # no text was given
    assert metrics["seconds"].value == pytest.approx((0.6 + 0.8) / 2, abs=0.05)
    assert {"auto_bleu", "self_bleu", "vert", "silent", "similarity", "similarity_original"} <= metrics.keys()
    assert metrics["similarity"].n == 4
    assert "similarity_original" not in kinds["original"].metrics
    assert found.left_out == ["word errors of continuations are left out: the model is not told what to say"]
    clip = found.clips[0]
    assert (clip.id, clip.text, clip.seam) == ("a/1", TEXTS[1], 0.4)
    assert set(clip.wavs) == {"prompt", "original", "resynthesis", "model"}
    wavs = {kind: read_audio(tmp_path / file)[0] for kind, file in clip.wavs.items()}
    assert len(wavs["prompt"]) == 0.4 * RATE
    assert torch.equal(wavs["original"][: len(wavs["prompt"])], wavs["prompt"])
    assert abs(len(wavs["model"]) - RATE) <= 640
    assert done[-1] == (18, 18)


def test_a_model_that_is_given_the_text_is_judged_by_its_words(utterances, tmp_path):
    found = run_continuation(
        make_model("Concat(Text(text), Delay(audio))"), utterances, tmp_path, make_panel(), SHORT, Sampling()
    )
    original = found.heard[0]
    assert original.metrics["wer"].value == pytest.approx(100)  # "four five six" heard as "one two"
    assert original.metrics["wer"].n == 2
    assert not found.left_out


def test_perplexity_is_of_what_follows_the_prompt(utterances, tmp_path):
    reader = SimpleNamespace(
        name="reader", read=lambda texts: [(len(text.split()) * 2.0, len(text.split())) for text in texts]
    )
    panel = make_panel(reader=reader)
    found = run_continuation(make_model("Delay(audio)"), utterances, tmp_path, panel, SHORT, Sampling())
    assert found.heard[0].metrics["perplexity"].value == pytest.approx(np.exp(2))
    assert found.heard[0].metrics["perplexity_mean"].low == pytest.approx(np.exp(2))


def test_an_evaluation_goes_on_where_it_was_killed(utterances, tmp_path):
    def run(folder, on_progress=None, panel=None):
        generator, panel = make_model("Delay(audio)"), panel or make_panel()
        how = replace(SHORT, n=2)
        return run_continuation(
            generator, utterances, folder, panel, how, Sampling(), weights="w", on_progress=on_progress
        )

    def stop_at(limit):
        def tell(done, total):
            if done >= limit:
                raise KeyboardInterrupt

        return tell

    whole = run(tmp_path / "whole")
    for limit in (6, 11):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", stop_at(limit))
    gone = tmp_path / "parts" / "samples" / "continuation-a_2-model-1.wav"
    gone.unlink()
    assert run(tmp_path / "parts") == whole
    made, again = files(tmp_path / "whole"), files(tmp_path / "parts")
    assert [name for name in made if name.endswith(".wav")] == [name for name in again if name.endswith(".wav")]
    assert all(made[name] == again[name] for name in made if name.endswith(".wav"))
    panel = make_panel()
    assert run(tmp_path / "whole", panel=panel) == whole
    assert panel.recogniser.heard == 0  # type: ignore[union-attr]


def test_other_settings_make_everything_anew(utterances, tmp_path):
    for weights in ("one", "two"):
        panel, drawn = make_panel(), {"sampling": Sampling(), "weights": weights, "limit": 1}
        run_continuation(make_model("Delay(audio)"), utterances, tmp_path, panel, SHORT, **drawn)
        assert panel.recogniser.heard == 3  # type: ignore[union-attr]


def test_batches_make_what_single_ones_make(utterances, tmp_path):
    for batch in (1, 4):
        how = replace(SHORT, batch=batch, n=2, least_seconds=1.1)
        run_continuation(make_model("Delay(audio)"), utterances, tmp_path / str(batch), make_panel(), how, Sampling())
    one, four = (files(tmp_path / name / "samples") for name in ("1", "4"))
    assert one == four


def test_utterances_of_other_lengths_are_refused_or_told_of(utterances, tmp_path):
    with pytest.raises(InputError, match=r"none of 3 utterances lasts 4 to 10 s"):
        run_continuation(make_model("Delay(audio)"), utterances, tmp_path, make_panel())
    found = run_continuation(
        make_model("Delay(audio)", context=30), utterances, tmp_path, make_panel(), SHORT, Sampling()
    )
    assert [clip.id for clip in found.clips] == ["a/1"]
    assert found.left_out[0] == "1 of 2 utterances are left out: they are longer than the model's context"


def test_units_that_are_given_are_revoiced(utterances, tmp_path):
    generator = make_model("soundstorm")
    chosen = [replace(one, streams={"semantic": np.arange(round(one.seconds * 25))[:, None] % 9}) for one in utterances]
    found = run_continuation(generator, chosen, tmp_path, make_panel(), SHORT, Sampling())
    assert {heard.protocol for heard in found.heard} == {"revoice"}
    assert "wer" in found.heard[-1].metrics
    assert "ended" not in found.heard[-1].metrics
    with pytest.raises(InputError, match='needs the stream "semantic", and a/1 has none'):
        run_continuation(generator, utterances, tmp_path / "none", make_panel(), SHORT, Sampling())


def test_both_sides_of_a_dialogue_are_no_original(utterances, tmp_path):
    generator = make_model("Stack(Delay(audio), Lead(Delay(user)))")
    codes_TK = np.random.default_rng(0).integers(0, 1024, (25, LEVELS)).astype(np.uint16)
    example = replace(utterances[1].like(), streams={"audio": codes_TK, "user": codes_TK}, audio=str(tmp_path))
    found = run_continuation(generator, of_corpus([example]), tmp_path, make_panel(), SHORT, Sampling())
    assert [(heard.protocol, heard.kind) for heard in found.heard] == [
        ("continuation", "resynthesis"),
        ("continuation", "model"),
    ]
    assert "not at hand as single voices" in found.left_out[0]


def test_a_pipeline_goes_on_too(utterances, tmp_path):
    pipeline = Pipeline.open(save_cascade(tmp_path / "models", "valle", codes=1024, levels=LEVELS))
    assert protocols_of(pipeline) == ("tts", "continuation")
    found = run_continuation(pipeline, utterances, tmp_path / "out", make_panel(), SHORT, Sampling(), limit=1)
    assert [heard.n for heard in found.heard] == [1, 1, 1]
    assert found.heard[-1].metrics["wer"].low is None


# --- text to speech and recognition -----------------------------------------------------------------------------------


def test_texts_are_spoken_in_lent_voices(manifest, tmp_path):
    found = run_tts(
        make_model("Concat(Text(text), Delay(audio))"), of_metalist(manifest.parent / "meta.lst"), tmp_path,
        make_panel(), Speech(n=2, batch=4), Sampling(), limit=2,
    )  # fmt: skip
    assert [(heard.kind, heard.n) for heard in found.heard] == [("original", 2), ("resynthesis", 2), ("model", 4)]
    assert {"wer", "cer_mean", "similarity", "similarity_original"} <= found.heard[-1].metrics.keys()
    assert set(found.clips[0].wavs) == {"prompt", "original", "resynthesis", "model"}
    assert found.clips[0].seam is None


def test_a_template_names_the_voice(utterances, tmp_path):
    template = Template("{speaker}: {text}")
    assert template.fill(utterances[0]) == "x: one two three"
    assert (template.read("x: one"), template.read("one")) == ("one", "one")
    found = run_tts(
        make_model("speech-text"), utterances, tmp_path, make_panel(), Speech(template="{speaker}: {text}"), limit=1
    )
    assert found.heard[-1].n == 1
    with pytest.raises(InputError, match="has no speaker, which the template"):
        template.fill(Utterance(id="y", text="z"))
    with pytest.raises(InputError, match="a template holds"):
        Template("{voice}: {text}")


def test_recordings_that_a_recogniser_cannot_hold_are_told_of(utterances, tmp_path):
    generator = make_model("Concat(Delay(audio), Text(text))", context=30)
    found = run_recognition(generator, utterances, tmp_path, Panel(), Recognition(most_tokens=3))
    assert found.heard[0].n == 2
    assert found.left_out == ["1 recordings are left out: they are longer than the model's context"]


def test_what_a_model_writes_stands_beside_what_is_heard(utterances, tmp_path):
    panel = make_panel()
    found = run_recognition(
        make_model("Concat(Delay(audio), Text(text))"), utterances, tmp_path, panel, Recognition(most_tokens=5)
    )
    assert [(heard.kind, heard.n) for heard in found.heard] == [("original", 3), ("resynthesis", 3), ("model", 3)]
    assert panel.recogniser.heard == 6  # type: ignore[union-attr]
    assert found.heard[-1].metrics.keys() == {"wer", "wer_mean", "cer", "cer_mean"}
    assert found.clips[0].transcripts.keys() == {"original", "resynthesis", "model"}
    alone = run_recognition(
        make_model("Concat(Delay(audio), Text(text))"), utterances, tmp_path / "b", Panel(), Recognition(most_tokens=5)
    )
    assert alone.heard == [found.heard[-1]]


# --- outputs that were made elsewhere ---------------------------------------------------------------------------------


def test_outputs_made_elsewhere_are_judged_and_missing_ones_named(manifest, tmp_path):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    soundfile.write(outputs / "utt1.wav", np.full(24000, 0.1), 24000)
    with pytest.raises(InputError, match=r"1 of 2 outputs of .* are missing in .*, first utt2\.wav"):
        rate_outputs(manifest.parent / "meta.lst", outputs, tmp_path / "out", make_panel())
    soundfile.write(outputs / "utt2.wav", np.zeros(100), 24000)
    found = rate_outputs(manifest.parent / "meta.lst", outputs, tmp_path / "out", make_panel())
    assert [(heard.kind, heard.n) for heard in found.heard] == [("original", 2), ("model", 2)]
    assert found.heard[1].metrics["wer"].value == pytest.approx(100)
    assert "no codec" in found.left_out[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a|b|0.wav\n", "line 1 is no row of a meta.lst"),
        ("a|b|9.wav|c\n", 'line 1 names "9.wav", which is not there'),
        ("a|b|0.wav|c\na|b|0.wav|d\n", 'has more than one row of "a"'),
        ("", "has no rows"),
    ],
)
def test_wrong_lists_are_named(manifest, rows, message):
    (manifest.parent / "wrong.lst").write_text(rows)
    with pytest.raises(InputError, match=message):
        of_metalist(manifest.parent / "wrong.lst")


def test_an_output_that_is_missing_is_named(utterances, tmp_path):
    outputs = Outputs(tmp_path, "tts", {})
    wanted = outputs.name(utterances, "model", [0])
    with pytest.raises(InputError, match=r'3 of 3 outputs of tts are missing .*, first "a_0-model-0"'):
        outputs.read(wanted)
    with pytest.raises(ValueError):  # a model that makes too few
        outputs.fill(wanted, lambda some: [Made(transcript="x")], batch=3)


# --- utterances and sums ----------------------------------------------------------------------------------------------


def test_examples_whose_files_are_partly_gone_are_refused(utterances, tmp_path):
    examples = [replace(one.like(), audio=str(one.recording.audio)) for one in utterances]
    assert all(one.recording for one in of_corpus(examples))
    gone = [replace(one, audio="gone.wav") for one in examples]
    assert not any(one.recording for one in of_corpus(gone))
    with pytest.raises(InputError, match=r'the recording "gone\.wav" of a/2 is missing'):
        of_corpus([*examples[:2], gone[2]])


def test_names_of_files_that_look_alike_are_told_apart(tmp_path):
    outputs = Outputs(tmp_path, "tts", {})
    wanted = outputs.name([Utterance(id="a/b"), Utterance(id="a b")], "model")
    assert [one.id for one in wanted] == ["a_b-model", "a_b~2-model"]


def test_voices_are_lent_by_the_same_speaker(utterances):
    long = [replace(one, seconds=3.0) for one in utterances] + [Utterance(id="z", speaker="y", text="z", seconds=3.0)]
    lent = lend_voices(long)
    assert [one.prompt_text for one in lent] == [TEXTS[1], TEXTS[2], TEXTS[0], None]


def test_sums_by_hand():
    def row(utterance, wrong, words, **scores):
        counts = {"wrong_words": wrong, "words": words, "wrong_characters": wrong, "characters": 2 * words}
        facts = {"kind": "model", "continuation": None, "wav": "x", "seconds": 2.0, "ended": True}
        return {"utterance": utterance, "scores": counts | scores} | facts

    rows = [row("a", 1, 2, dnsmos=3.0), row("a", 1, 2), row("b", 9, 4, dnsmos=1.0)]
    metrics = summarise("tts", rows, {})[0].metrics
    assert metrics["wer"].value == pytest.approx(100 * 11 / 8)
    assert metrics["wer_mean"].value == pytest.approx(100 * (0.5 + 0.5 + 2.25) / 3)
    assert metrics["cer"].value == pytest.approx(100 * 11 / 16)
    assert (metrics["wer"].low, metrics["wer"].high) == (50.0, 225.0)  # two utterances, drawn whole
    assert (metrics["dnsmos"].value, metrics["dnsmos"].n) == (2.0, 2)
    assert metrics["ended"].value == 100
