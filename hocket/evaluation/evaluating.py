"""`hocket evaluate`: a checkpoint measured part by part, and what was found about it as an `Evaluation`.

    likelihood ──▶ speed ──▶ generation ──▶ tasks        each writes evaluation.json when it is done

A part that is done is not measured again while the weights and what was asked of it are the same; one that was killed
goes on from its items (`items/NAME.jsonl`), which is why the result is that of an evaluation that was never killed.
Other weights in the same folder start everything over. What is left out is said in a sentence. Speed comes before the
judges are loaded, so that memory is the model's.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import hocket
from hocket.data import Corpus, Mixture, read_clips
from hocket.evaluation.generation import (
    Continuation,
    Found,
    Panel,
    Recognition,
    Speech,
    Unfit,
    Utterance,
    find_panel,
    lend_voices,
    of_corpus,
    of_metalist,
    protocols_of,
    run_continuation,
    run_recognition,
    run_tts,
)
from hocket.evaluation.generation.asking import is_given_text
from hocket.evaluation.likelihood import make_corpus, run_task, score_corpus
from hocket.evaluation.results import EVALUATION_FILE, Evaluation
from hocket.evaluation.speed import SpeedSettings, hardware, time_generation, time_scoring
from hocket.evaluation.suites import GENERATION, LIKELIHOOD, PAIRS, SPEED, Settings
from hocket.evaluation.targets import Target, open_held_out, with_recordings
from hocket.inference import Generator
from hocket.interleave import written
from hocket.model import load_model
from hocket.progress import ProgressBar

LEAST = 1.0
"""Seconds that an utterance must have after the prompt; 4 s in all of VALL-E's 3 s."""


def evaluate(target: Target, settings: Settings, fresh: bool = False) -> Evaluation:
    """Measures what is asked for and not known yet; the whole evaluation, as it is saved in the target's folder.

    Args:
        fresh: measure anew what is there.

    Raises:
        InputError: there is no corpus, it does not fit the model, a judge's folder holds no such model, …
    """
    return _Evaluator(target, settings, fresh).run()


@dataclass(frozen=True)
class _Part:
    """One part: what decides its numbers, and how they are found."""

    name: str
    asked: dict[str, Any]
    measure: Callable[[], tuple[dict[str, Any], list[str]]]
    """Fields of the evaluation, and what is left out."""


class _Evaluator:
    """Evaluates one checkpoint."""

    def __init__(self, target: Target, settings: Settings, fresh: bool):
        self._target, self._settings = target, settings
        self._weights = target.weights
        self._model = load_model(target.model_folder, settings.device).eval()
        self._hardware = hardware(self._model.device)  # some judges change the number of threads
        self._known = self._start(fresh)

    def _start(self, fresh: bool) -> Evaluation:
        """What is known already; nothing where it is of other weights."""
        folder, facts = self._target.folder, self._facts()
        found = Evaluation.load(folder) if (folder / EVALUATION_FILE).is_file() else None
        if found is not None and (fresh or found.weights != self._weights):
            for part in ("items", "samples"):
                shutil.rmtree(folder / part, ignore_errors=True)
            (folder / EVALUATION_FILE).unlink()
            found = None
        if found is None:
            return Evaluation(**facts)
        kept = ("suite", "date", "hardware")
        return replace(found, **{name: value for name, value in facts.items() if name not in kept})

    def _facts(self) -> dict[str, Any]:
        """What is known without measuring."""
        model, target = self._model, self._target
        return {
            "name": target.name,
            "checkpoint": str(target.model_folder),
            "step": target.step,
            "weights": self._weights,
            "suite": self._settings.suite.name,
            "hocket": hocket.__version__,
            "date": _now(),
            "hardware": self._hardware,
            "layout": written(model.layout),
            "objective": model.stage.objective,
            "attention": model.stage.attention,
            "head": model.stage.head,
            "given": tuple(model.given),
            "stream": model.main_stream,
            "levels": model.layout.streams.get(model.main_stream, 0),
            "n_parameters": model.n_parameters,
            "codec": model.codec_identity.to_dict(),
            "context_seconds": model.context_seconds,
        }

    def run(self) -> Evaluation:
        """Part after part."""
        for part in self._parts():
            asked = json.loads(json.dumps(part.asked, default=str))
            if part.name in self._known.parts and self._known.settings.get(part.name) == asked:
                continue
            found, left_out = part.measure()
            parts = self._known.parts | {part.name: tuple(dict.fromkeys(left_out))}
            suites = self._known.suites | {part.name: self._settings.suite.name}
            self._known = replace(
                self._known,
                **found,
                settings=self._known.settings | {part.name: asked},
                parts=parts,
                suites=suites,
                suite=" and ".join(dict.fromkeys(suites.values())),
                left_out=tuple(dict.fromkeys(sentence for said in parts.values() for sentence in said)),
                date=_now(),
                hardware=self._hardware if part.name == SPEED else self._known.hardware,
            )
            self._known.save(self._target.folder)
        return self._known

    def _parts(self) -> list[_Part]:
        """The parts that are asked for, in the order in which they are measured."""
        makers = {
            LIKELIHOOD: self._likelihood,
            SPEED: self._speed,
            GENERATION: self._generation,
            PAIRS: self._tasks,
        }
        return [make() for name, make in makers.items() if name in self._settings.only]

    # --- data -------------------------------------------------------------------------------------------------------

    @cached_property
    def _held_out(self) -> Corpus | Mixture:
        settings = self._settings
        if settings.audio is None:
            return open_held_out(self._target, self._model, settings.corpus, settings.split)
        with ProgressBar("encode") as bar:
            clips = read_clips(settings.audio)
            return make_corpus(self._model, clips, codecs=settings.codecs, on_progress=bar.update)

    @property
    def _data(self) -> dict[str, Any]:
        """What is scored and heard, as far as it decides numbers."""
        return {"corpus": Mixture.of(self._held_out).fingerprint, "split": self._split}

    @property
    def _split(self) -> str:
        return "all" if self._settings.audio else self._settings.split

    @property
    def _missing(self) -> str:
        return str(self._target.setting("data.missing") or "refuse")

    def _items(self, name: str) -> Path:
        return self._target.folder / "items" / f"{name}.jsonl"

    # --- likelihood -------------------------------------------------------------------------------------------------

    def _likelihood(self) -> _Part:
        settings = self._settings
        asked = self._data | {"clips": settings.scored, "seed": settings.seed, "missing": self._missing}
        return _Part(LIKELIHOOD, asked, self._measure_likelihood)

    def _measure_likelihood(self) -> tuple[dict[str, Any], list[str]]:
        settings = self._settings
        with ProgressBar(LIKELIHOOD) as bar:
            found = score_corpus(
                self._model,
                self._held_out,
                name=settings.audio or str(Mixture.of(self._held_out).folder),
                split=self._split,
                batch_steps=settings.batch_steps,
                missing=self._missing,
                clips=settings.scored,
                seed=settings.seed,
                items=self._items(LIKELIHOOD),
                weights=self._weights,
                on_progress=bar.update,
            )
        return {"likelihood": found}, []

    # --- speed ------------------------------------------------------------------------------------------------------

    def _speed(self) -> _Part:
        settings = self._settings
        asked = {"runs": settings.suite.runs, "batch": settings.batch, "sampling": asdict(settings.sampling)}
        asked |= self._guided | {"device": str(self._model.device), "hardware": self._hardware}
        return _Part(SPEED, asked, self._measure_speed)

    def _measure_speed(self) -> tuple[dict[str, Any], list[str]]:
        settings = self._settings
        guidance, masks = settings.how(self._model.stage.in_place)
        how = SpeedSettings(
            runs=settings.suite.runs,
            batch=settings.batch,
            sampling=settings.sampling,
            guidance=guidance,
            masks=masks,
        )
        with ProgressBar(SPEED) as bar:
            found, left_out = time_generation(Generator(self._model), how, bar.update)
        if not (self._target.run or settings.corpus or settings.audio):
            left_out.append(
                "the speed of scoring is left out: it is timed on held-out audio (--corpus FOLDER or --audio FOLDER)"
            )
            return {"speed": found}, left_out
        speed = time_scoring(self._model, self._held_out, settings.batch_steps, self._missing, settings.suite.runs)
        return {"speed": found | {"scoring_tokens_per_second": speed}}, left_out

    @property
    def _guided(self) -> dict[str, Any]:
        """Guidance and masks, as plain values."""
        guidance, masks = self._settings.how(self._model.stage.in_place)
        return {
            "guidance": asdict(guidance) if guidance else None,
            "masks": asdict(masks) if masks else None,
        }

    # --- generation -------------------------------------------------------------------------------------------------

    def _generation(self) -> _Part:
        settings = self._settings
        names = ("n", "seed", "prompt_seconds", "longest", "texts", "template", "beams", "best_of")
        asked = self._data | self._guided | {name: getattr(settings, name) for name in names}
        asked |= {"clips": settings.heard, "sampling": asdict(settings.sampling), "judges": settings.judges.facts}
        return _Part(GENERATION, asked, self._measure_generation)

    def _measure_generation(self) -> tuple[dict[str, Any], list[str]]:
        settings, generator = self._settings, Generator(self._model)
        protocols = protocols_of(generator)
        if not protocols:
            reason = f"{self._model.layout} makes neither sound nor text by itself"
            return {"heard": (), "clips": ()}, [f"generation is left out: {reason}"]
        panel, left_out = find_panel(**settings.judges.__dict__, device=settings.device)
        utterances = of_corpus(with_recordings(self._held_out))
        heard, clips = [], []
        for protocol in protocols:
            try:
                found = self._run_protocol(protocol, generator, utterances, panel)
            except Unfit as error:
                options = " (--prompt-seconds, --longest)" if protocol in ("continuation", "revoice") else ""
                left_out.append(f"{protocol} is left out: {error}{options}")
                continue
            heard += found.heard
            clips += found.clips
            left_out += found.left_out
        return {"heard": tuple(heard), "clips": tuple(clips)}, left_out

    def _run_protocol(self, protocol: str, generator: Generator, utterances: list[Utterance], panel: Panel) -> Found:
        settings = self._settings
        run, how = find_protocol(protocol, settings, generator)
        drawn: dict[str, Any] = {}
        if run is not run_recognition:
            drawn["guidance"], drawn["masks"] = settings.how(generator.in_place)
        if run is run_tts:
            utterances = of_metalist(settings.texts) if settings.texts else lend_voices(utterances)
        with ProgressBar(protocol) as bar:
            return run(
                generator,
                utterances,
                self._target.folder,
                panel,
                how,
                settings.sampling,
                weights=self._weights,
                seed=settings.seed,
                limit=settings.heard,
                on_progress=bar.update,
                **drawn,
            )

    # --- paired tasks -----------------------------------------------------------------------------------------------

    def _tasks(self) -> _Part:
        folders = {name: str(path.resolve()) for name, path in self._settings.tasks.items()}
        asked = {"folders": folders, "clips": self._settings.clips, "seed": self._settings.seed}
        return _Part(PAIRS, asked, self._measure_tasks)

    def _measure_tasks(self) -> tuple[dict[str, Any], list[str]]:
        settings, found = self._settings, []
        if not settings.tasks:
            return {"tasks": ()}, ["the paired tasks are left out: no folder of them was given (--tasks FOLDER)"]
        for name, folder in settings.tasks.items():
            with ProgressBar(name) as bar:
                task = run_task(
                    self._model,
                    name,
                    folder,
                    batch_steps=settings.batch_steps,
                    clips=settings.clips,
                    seed=settings.seed,
                    items=self._items(name),
                    codecs=settings.codecs,
                    weights=self._weights,
                    on_progress=bar.update,
                )
            found.append(task)
        return {"tasks": tuple(found)}, []


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def find_protocol(protocol: str, settings: Settings, generator: Generator) -> tuple[Callable[..., Found], Any]:
    """The function that runs a protocol, and how."""
    shared: dict[str, Any] = {"batch": settings.batch}
    if protocol == "recognition":
        return run_recognition, Recognition(template=settings.template, beams=settings.beams, **shared)
    shared["n"] = settings.n
    if protocol == "tts":
        return run_tts, Speech(template=settings.template, best_of=settings.best_of, **shared)
    lengths = {"least_seconds": settings.prompt_seconds + LEAST, "most_seconds": settings.longest}
    how = Continuation(prompt_seconds=settings.prompt_seconds, **lengths, **shared)
    if protocol == "continuation" and not is_given_text(generator):
        how = replace(how, may_end_after=how.most_seconds)
    return run_continuation, how
