"""The numbers of a run in words: the tiles at the top of the report and the tables further down."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from hocket.evaluation.runs import Run, Sample
from hocket.evaluation.scores import Scores
from hocket.progress import format_seconds

ENGINES = {"deepspeed": "DeepSpeed", "accelerate": "Accelerate"}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number in large type."""

    label: str
    value: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A table: label and value by row."""

    title: str
    rows: list[tuple[str, str]]


def run_tiles(run: Run, scores: Scores | None, sample: Sample | None) -> list[Tile]:
    """The few numbers to see first."""
    tiles = []
    if scores:
        tiles.append(Tile(label="speech", value=f"{60 * scores.train_hours:,.1f}", unit="minutes to learn from"))
        tiles.append(Tile(label="held-out bits", value=scores.bits.say_total(), unit="per second of audio"))
        tiles.append(Tile(label="context", value=f"{scores.context_seconds:,.1f}", unit="seconds of audio"))
    if (speed := mean_speed(run)) is not None:
        tiles.append(Tile(label="training speed", value=f"{speed:,.0f}", unit="tokens per second"))
    if (wall := run.last("wall")) is not None:
        tiles.append(Tile(label="training time", value=format_seconds(wall), unit=_steps_of(run)))
    if sample:
        tiles.append(Tile(label="sampling", value=f"{1 / sample.real_time_factor:.1f} ×", unit="as fast as it sounds"))
    return tiles


def _steps_of(run: Run) -> str:
    return f"for {int(run.train[-1]['step']):,} steps"


def mean_speed(run: Run) -> float | None:
    """Tokens per second of the middle training step."""
    speeds = sorted(value for _, value in run.line("tokens_per_second"))
    return speeds[len(speeds) // 2] if speeds else None


def run_table(run: Run, scores: Scores | None, sample: Sample | None) -> list[Group]:
    """The tables of the report; rows without a value are left out."""
    groups = [_data_group(run, scores), _model_group(run, scores), _training_group(run), _held_out_group(run, scores)]
    if sample:
        groups.append(_sample_group(sample))
    return [group for group in groups if group.rows]


def _group(title: str, rows: Iterable[tuple[str, str | None]]) -> Group:
    return Group(title=title, rows=[(label, value) for label, value in rows if value is not None])


def _data_group(run: Run, scores: Scores | None) -> Group:
    rows: list[tuple[str, str | None]] = [("corpus", run.setting("data.corpus"))]
    if scores:
        codec = scores.codec
        rate = Fraction(codec["sample_rate"], codec["hop"])
        rows += [
            ("audio, training split", f"{scores.train_hours:.3f} hours"),
            ("audio, held-out split", f"{scores.valid_seconds / 3600:.3f} hours"),
            ("codec", f"{codec['name']}, {codec['sample_rate']:,} Hz"),
            ("codes", f"{scores.levels} levels at {float(rate):g} Hz, {_sizes(codec['codebook_sizes'])} entries"),
        ]
    return _group("Data", rows)


def _sizes(sizes: list[int]) -> str:
    return f"{sizes[0]:,}" if len(set(sizes)) == 1 else ", ".join(f"{size:,}" for size in sizes)


def _model_group(run: Run, scores: Scores | None) -> Group:
    shape = [run.setting(f"model.{key}") for key in ("n_layers", "dim", "n_heads")]
    rows: list[tuple[str, str | None]] = []
    if scores:
        rows += [
            ("parameters", f"{scores.n_parameters / 1e6:.2f} million"),
            ("layout", scores.layout),
            ("context", f"{scores.context:,} steps, {scores.context_seconds:.1f} s of audio"),
        ]
    if all(shape):
        rows.insert(0, ("shape", f"{shape[0]} layers, width {shape[1]}, {shape[2]} heads"))
    return _group("Model", rows)


def _training_group(run: Run) -> Group:
    tokens, speed, wall = run.last("tokens"), mean_speed(run), run.last("wall")
    hearing, epoch = run.last("audio_seconds_per_second"), run.last("epoch")
    processes = run.trainer.get("processes")
    engine = ENGINES.get(run.trainer.get("engine", ""))
    return _group(
        "Training",
        [
            ("steps", f"{int(run.train[-1]['step']):,}" if run.train else None),
            ("tokens seen", f"{int(tokens):,}" if tokens else None),
            ("passes over the data", f"{int(epoch) + 1}" if epoch is not None else None),
            ("speed", f"{speed:,.0f} tokens/s" if speed else None),
            ("audio heard", f"{hearing:,.0f} s per second" if hearing else None),
            ("wall time", format_seconds(wall) if wall else None),
            ("engine", f"{engine}, {processes} process{'es' if processes != 1 else ''}" if engine else None),
            ("precision", run.setting("training.dtype")),
        ],
    )


def _held_out_group(run: Run, scores: Scores | None) -> Group:
    loss = run.last("valid/loss")
    rows: list[tuple[str, str | None]] = [("loss", f"{loss:.3f} nats per cell" if loss is not None else None)]
    if scores:
        rows += [
            ("bits per second of audio", scores.bits.say_total(1)),
            ("of which codes", f"{scores.bits.audio:,.1f}"),
            ("of which structure", f"{scores.bits.structure:,.1f}" if scores.bits.structure else None),
            *[(f"of which {name}", f"{value:,.1f}") for name, value in scores.bits.further.items()],
        ]
    return _group("Held-out speech", rows)


def _sample_group(sample: Sample) -> Group:
    how = sample.sampling
    return _group(
        "Sample",
        [
            ("clip", sample.clip),
            ("prompt", f"{sample.prompt_seconds:.2f} s"),
            ("continuation", f"{sample.seconds:.2f} s" + (", ended by the model itself" if sample.ended else "")),
            ("from the checkpoint of step", f"{sample.step:,}"),
            ("time to sample", f"{sample.wall_seconds:.2f} s ({1 / sample.real_time_factor:.1f} × real time)"),
            ("temperature, top-k, top-p", f"{how['temperature']:g}, {how['top_k'] or 'off'}, {how['top_p']:g}"),
            ("seed", str(how["seed"])),
        ],
    )
