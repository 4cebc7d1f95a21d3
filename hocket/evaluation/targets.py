"""What is evaluated: checkpoints of a run, or a model folder; and the held-out speech that goes with it.

RUN                    the newest checkpoint, --step N, or all that are kept   RUN/evaluation/STEP
RUN/checkpoints/STEP   that one                                                RUN/evaluation/STEP
FOLDER                 a model by itself                                       FOLDER/evaluation/0
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from hocket.data import Corpus, Example, Mixture
from hocket.data.clips import SPLITS
from hocket.data.corpus import name_codec
from hocket.data.sources import BUNDLED
from hocket.errors import InputError
from hocket.evaluation.results import EVALUATION_FOLDER
from hocket.evaluation.runs import Run, open_corpus, read_run
from hocket.model import Model, find_model_folder
from hocket.vocab import ALIGNED_TEXT, TEXT

CHECKPOINTS, CONFIG, WEIGHTS = "checkpoints", "config.yaml", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A checkpoint to evaluate."""

    name: str
    model_folder: Path
    folder: Path
    """Where the evaluation goes."""
    step: int | None = None
    """Of training; None for a model by itself."""
    run: Run | None = None

    @property
    def weights(self) -> str:
        """Hash of the weights."""
        return hashlib.sha256((self.model_folder / WEIGHTS).read_bytes()).hexdigest()[:16]

    def setting(self, dotted: str) -> str | int | None:
        """A value of the run's recipe; None where there is none."""
        return self.run.setting(dotted) if self.run else None


def find_targets(
    checkpoint: str | Path, step: int | None = None, all_steps: bool = False, out: str | Path | None = None
) -> list[Target]:
    """The checkpoints that are meant, by ascending step.

    Args:
        step: of a run, another than the newest.
        all_steps: of a run, all that are kept.
        out: instead of the usual folder; with several, each has a folder in it, named by its step.

    Raises:
        InputError: there is no such checkpoint.
    """
    folder = Path(checkpoint)
    if not folder.exists():
        raise InputError(f'there is no folder "{folder}" to evaluate: give a run, one of its checkpoints, or a model')
    run_folder, own_step = _place_in_run(folder)
    if step is not None and all_steps:
        raise InputError("say --step N or --all-steps, not both")
    if (run_folder is None or own_step is not None) and (step is not None or all_steps):
        raise InputError(f'"{folder}" is one checkpoint: --step and --all-steps are for a run folder')
    if run_folder is None:
        model_folder = find_model_folder(folder)
        place = Path(out) if out else folder / EVALUATION_FOLDER / "0"
        return [Target(name=folder.resolve().name, model_folder=model_folder, folder=place)]
    run = read_run(run_folder)
    steps = kept_steps(run) if all_steps else [_find_step(run, step if own_step is None else own_step)]
    return [_of_run(run, step, Path(out) / str(step) if out and all_steps else out) for step in steps]


def kept_steps(run: Run) -> list[int]:
    """The steps of the checkpoints that a run holds, ascending. InputError where there is none."""
    found = (run.folder / CHECKPOINTS).glob(f"*/model/{WEIGHTS}")
    steps = sorted(int(path.parents[1].name) for path in found if path.parents[1].name.isdigit())
    if not steps:
        raise InputError(f'the run "{run.folder}" has no checkpoint to evaluate yet')
    return steps


def _place_in_run(folder: Path) -> tuple[Path | None, int | None]:
    """The run that a folder is, or is a checkpoint of, and the checkpoint's step."""
    if (folder / CONFIG).is_file() and not (folder / "model").is_dir():
        return folder, None
    for inner in (folder.resolve(), folder.resolve().parent):  # RUN/checkpoints/STEP, and its model/
        above = inner.parent
        if above.name == CHECKPOINTS and inner.name.isdigit() and (above.parent / CONFIG).is_file():
            return above.parent, int(inner.name)
    return None, None


def _find_step(run: Run, step: int | None) -> int:
    steps = kept_steps(run)
    wanted = run.step if step is None else step
    if wanted not in steps:
        raise InputError(f'the run "{run.folder}" keeps no checkpoint of step {wanted}: it has {_listed(steps)}')
    return wanted


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))


def _of_run(run: Run, step: int, out: str | Path | None) -> Target:
    return Target(
        name=run.name,
        model_folder=run.folder / CHECKPOINTS / str(step) / "model",
        folder=Path(out) if out else run.folder / EVALUATION_FOLDER / str(step),
        step=step,
        run=run,
    )


def open_held_out(target: Target, model: Model, corpus: str | None, split: str) -> Corpus | Mixture:
    """The examples of a split of the run's corpus, or of another one of the same codec.

    Raises:
        InputError: there is no corpus, it is of another codec, lacks a stream of the layout, or its split is empty.
    """
    whole = Mixture.open(corpus) if corpus else _corpus_of(target)
    if split not in SPLITS:
        raise InputError(f'a corpus has no split "{split}": its splits are {", ".join(SPLITS)}')
    _check_codecs(model, whole)
    chosen = whole.split(split)
    if not len(chosen):
        sizes = {name: len(whole.split(name)) for name in SPLITS}
        have = ", ".join(f"{size:,} in {name}" for name, size in sizes.items() if size) or "none"
        raise InputError(f'the corpus "{whole.folder}" has no examples in its split {split} (it has {have})')
    return chosen


def _corpus_of(target: Target) -> Corpus | Mixture:
    advice = "name one with --corpus FOLDER, or recordings with --audio FOLDER"
    if target.run is None:
        raise InputError(f'"{target.name}" is a model by itself and knows no corpus: {advice}')
    try:
        return open_corpus(target.run)
    except InputError as error:
        raise InputError(f'the corpus of the run "{target.name}" cannot be opened ({error}): {advice}') from error


def _check_codecs(model: Model, corpus: Corpus | Mixture) -> None:
    for name, n_levels in model.layout.streams.items():
        if name in (TEXT, ALIGNED_TEXT):
            continue
        theirs, own = corpus.streams.get(name), model.codec_identities.get(name)
        if theirs is None:
            have = ", ".join(corpus.streams) or "none"
            raise InputError(
                f'the corpus "{corpus.folder}" has no stream "{name}", which {model.layout} needs (it has {have})'
            )
        if theirs.levels < n_levels:
            raise InputError(
                f'the corpus "{corpus.folder}" has {theirs.levels} levels of "{name}", the model {n_levels}'
            )
        fewest = min(theirs.levels, own.levels) if own else 0
        if own and theirs.with_levels(fewest).fingerprint != own.with_levels(fewest).fingerprint:
            raise InputError(f'the corpus "{corpus.folder}" is of {name_codec(theirs)}, the model of {name_codec(own)}')


def with_recordings(corpus: Corpus | Mixture) -> list[Example]:
    """The examples of a corpus, of which `audio` is the file itself where it lies beside the source that was
    tokenised."""
    return [
        replace(example, audio=_find_file(example.audio, one.card.source))
        for one in Mixture.of(corpus).corpora
        for example in one
    ]


def _find_file(name: str, source: str) -> str:
    place = BUNDLED if source == "bundled" else Path(source)
    folder = place if place.is_dir() else place.parent
    return str(folder / name) if not Path(name).is_file() and (folder / name).is_file() else name
