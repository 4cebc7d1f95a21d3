"""A layout node of your own: frames go in chunks, and within a chunk level by level, so that sound comes out chunk by
chunk while the fine levels of a frame see the coarse ones of the frames that follow it.

    Chunks(audio, size=2)    0.0 1.0 0.1 1.1 | 2.0 3.0 2.1 3.1 | 4.0 end 4.1     (frame.level)

Use it from anywhere, without touching the package: `hocket inspect 'examples/chunks.py:Chunks(audio, size=4)'`.
"""

from dataclasses import dataclass, replace

import numpy as np

from hocket.interleave import Leaf, StreamRef, draw_text, load_layout


@dataclass(frozen=True)
class Chunks(Leaf):
    """Chunks of `size` frames, each level by level, in one row."""

    stream: StreamRef | str
    size: int = 4

    def __post_init__(self):
        object.__setattr__(self, "stream", StreamRef.parse(self.stream))

    @property
    def expression(self) -> str:
        return f"Chunks({self.ref}, size={self.size})"

    @property
    def rows(self) -> np.ndarray:
        return np.zeros(self.ref.n_levels, dtype=np.int64)

    @property
    def is_online(self) -> bool:
        return self.size == 1  # the last chunk may be shorter, which moves its cells

    @property
    def period(self) -> int:
        return self.size

    def resolve(self, levels, rates):
        return replace(self, stream=self.ref.resolve(levels.get(self.ref.name)))

    def steps(self, frame_N1, n_N1, ends_N1):
        chunk_N1, within_N1 = np.divmod(frame_N1, self.size)
        held_N1 = np.minimum(n_N1 - chunk_N1 * self.size, self.size)  # frames of this chunk
        has_end_N1 = (held_N1 < self.size) & np.asarray(ends_N1)  # the end follows level 0 of the last frame
        level_K, before_N1 = np.arange(self.ref.n_levels), chunk_N1 * self.size * self.ref.n_levels
        return before_N1 + level_K * held_N1 + (level_K > 0) * has_end_N1 + within_N1


if __name__ == "__main__":
    for spec in (f"{__file__}:Chunks(audio, size=3)", "flatten", "flatten-level-major"):
        layout = load_layout(spec, levels=2)
        plan = layout.plan({"audio": 7})
        codes_TK = np.arange(14).reshape(7, 2)
        assert np.array_equal(plan.deinterleave(plan.interleave({"audio": codes_TK}))["audio"], codes_TK)
        ready = [plan.ready(step)["audio"] for step in range(plan.n_steps)]
        print(f"{layout}, {float(layout.steps_per_second({'audio': 25})):g} steps a second at 25 Hz")
        print(draw_text(plan, width=100))
        print(f"frames ready after each step: {ready}\n")
