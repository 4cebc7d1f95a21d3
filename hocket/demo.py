"""The demo: from the bundled speech to a page one can listen to, in a few minutes and without a network.

    bundled speech --tokenise--> runs/bundled-corpus --train--> runs/demo --sample--> four wavs and report.html

It is the recipe `demo`, so `hocket train demo` goes on with the same run. Of a held-out clip the first seconds are the
prompt; the model's continuation stands beside the original and beside the codec's own copy of it.

Shapes: S samples, T frames, K levels.
"""

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from hocket.codec import write_audio
from hocket.data import read_clips
from hocket.evaluation.listening import BOTH, CONTINUATION, ORIGINAL, PROMPT, RESYNTHESIS, WAVS
from hocket.evaluation.report import build_report
from hocket.evaluation.runs import SAMPLE_FILE, Run, Sample, read_run
from hocket.evaluation.scores import Scores, score_run
from hocket.inference import Generation, Generator, Sampling
from hocket.model import Model, load_model
from hocket.progress import ProgressBar
from hocket.training import load_recipe, train
from hocket.training.config import InferenceGroup

IS_ON_PATH = shutil.which("hocket") is not None
"""Whether the user can type `hocket`; asked before training puts the interpreter's folder on PATH for ninja."""
RECIPE = "demo"
CLIP = "demo-echotest"
"""Id of the held-out clip that is continued."""
SEEDS = 5
"""Seeds that are tried, from the recipe's on, where a continuation ends early."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo left behind."""

    folder: Path
    report: Path | None
    """None where training was interrupted."""
    signal: int
    """What interrupted training, 0 if nothing did."""


def run_demo(
    out: str | Path = "runs/demo",
    fresh: bool = False,
    overrides: list[str] | None = None,
    console: Console | None = None,
) -> DemoResult:
    """Train, continue a held-out prompt, write the page, and say where it lies.

    A run that is there goes on, or is used as it is when finished; `fresh` starts over.

    Args:
        out: the run folder; the tokenised speech is kept beside it, for other runs.
        overrides: changes to the recipe, such as `training.steps=100`.

    Raises:
        InputError: `out` holds something else, or a run of another recipe.
    """
    out, console = Path(out), console or Console()
    recipe = load_recipe(RECIPE, overrides)
    recipe.name, recipe.output = out.name, str(out)
    result = train(recipe, fresh)
    if result.signal:
        return DemoResult(folder=out, report=None, signal=result.signal)
    run = read_run(out)
    clear_sample(out)
    model = load_model(out)
    sample = continue_clip(model, run, recipe.inference)
    scores = score_run(run)
    report = build_report(out, scores)
    say_result(console, run, scores, sample, report)
    return DemoResult(folder=out, report=report, signal=0)


def clear_sample(folder: Path) -> None:
    """Remove the sample of an earlier checkpoint, so that nothing old stands beside what is new."""
    for name in (SAMPLE_FILE, *WAVS):
        (folder / name).unlink(missing_ok=True)


def continue_clip(model: Model, run: Run, settings: InferenceGroup) -> Sample:
    """Continue the start of the held-out clip and write the wavs to compare into the run folder."""
    clip = next(clip for clip in read_clips("bundled") if clip.id == CLIP)
    codec = model.codec
    whole_S = clip.read(codec.sample_rate)
    n_prompt = round(settings.prompt_seconds * codec.sample_rate)
    prompt_S = whole_S[:n_prompt]
    sampling = Sampling(temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p)
    seed, generation = sample_long_enough(Generator(model), prompt_S, settings, sampling)
    original_S = whole_S[: n_prompt + round(settings.seconds * codec.sample_rate)]
    _write_wavs(run.folder, model, prompt_S, original_S, generation)
    sample = Sample(
        clip=CLIP,
        text=clip.text,
        prompt_seconds=len(generation.prompt_codes_TK) / float(codec.frame_rate),
        seconds=generation.seconds,
        wall_seconds=generation.wall_seconds,
        ended=generation.ended,
        step=run.step or 0,
        sampling=asdict(sampling) | {"seed": seed},
        prompt_codes=generation.prompt_codes_TK.tolist(),
        codes=generation.codes_TK.tolist(),
    )
    sample.save(run.folder)
    return sample


def sample_long_enough(
    generator: Generator, prompt_S: Tensor, settings: InferenceGroup, sampling: Sampling
) -> tuple[int, Generation]:
    """A continuation and its seed: the first of a few seeds that speaks for half of the seconds asked for.

    Clips of the bundled speech last 4 s on average, so a model may rightly end one soon after the prompt.
    """
    tried: list[tuple[int, Generation]] = []
    for seed in range(settings.seed, settings.seed + SEEDS):
        with ProgressBar("continue the prompt") as bar:
            generation = generator.generate(
                prompt_S, seconds=settings.seconds, sampling=sampling, seed=seed, on_step=bar.update
            )
        tried.append((seed, generation))
        if generation.seconds >= settings.seconds / 2:
            break
    return max(tried, key=lambda item: item[1].seconds)


def _write_wavs(folder: Path, model: Model, prompt_S: Tensor, original_S: Tensor, generation: Generation) -> None:
    codec = model.codec
    copy_S = codec.decode(codec.encode(original_S[None], codec.sample_rate))[0, : len(original_S)]
    wavs = {
        PROMPT: prompt_S,
        CONTINUATION: generation.wav_T,
        BOTH: generation.full_wav_T,
        ORIGINAL: original_S,
        RESYNTHESIS: copy_S,
    }
    for name, wav_S in wavs.items():
        if len(wav_S):
            write_audio(folder / name, wav_S.detach().cpu(), codec.sample_rate)


def say_result(console: Console, run: Run, scores: Scores, sample: Sample, report: Path) -> None:
    """Print the losses beside the baselines, where to click, and what to try next."""
    console.print()
    console.print(_loss_table(scores))
    console.print(
        f"{scores.bits.total:,.0f} bits per second of held-out audio; sampling at {1 / sample.real_time_factor:.1f} x "
        "real time",
        highlight=False,
    )
    folder = run.folder.as_posix()
    console.print(f"\nListen: open [bold]{report.resolve().as_uri()}[/bold]", soft_wrap=True, highlight=False)
    console.print("\nTry next:")
    for line in next_commands(folder, int(run.setting("training.steps"))):
        console.print(f"  [cyan]{line}[/cyan]", soft_wrap=True, highlight=False)


def next_commands(folder: str, steps: int) -> list[str]:
    """Three commands that work when pasted, also where the environment is not activated."""
    hocket = "hocket" if IS_ON_PATH else os.path.relpath(Path(sys.executable).parent / "hocket")
    return [
        f"{hocket} generate {folder} --prompt {folder}/prompt.wav --seed 1 --out again.wav",
        f"{hocket} train {RECIPE} output={folder} training.steps={2 * steps}",
        f"{hocket} train {RECIPE} name=flatten interleave=flatten training.steps={steps}",
    ]


def _loss_table(scores: Scores) -> Table:
    table = Table(title="Held-out loss, nats per code", title_justify="left", box=None, pad_edge=False)
    for column in ("level", "model", "unigram", "bigram"):
        table.add_column(column, justify="right")
    for level, unigram in enumerate(scores.baselines.unigram):
        bigram = f"{scores.baselines.bigram:.3f}" if level == scores.baselines.leader else ""
        table.add_row(str(level), f"{scores.losses[f'audio.{level}']:.3f}", f"{unigram:.3f}", bigram)
    return table
