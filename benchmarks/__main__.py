"""`python -m benchmarks [NAME…]`: runs all measurements, or those named, and prints one table each."""

import sys

from benchmarks import (
    attention,
    codecs,
    depth,
    depth_generation,
    drawing,
    generation,
    imports,
    loader,
    loss,
    masked,
    mfu,
    patterns,
    streaming,
    training,
)

ALL = {
    "attention": attention.main,
    "codecs": codecs.main,
    "depth": depth.main,
    "depth_generation": depth_generation.main,
    "drawing": drawing.main,
    "generation": generation.main,
    "imports": imports.main,
    "loader": loader.main,
    "loss": loss.main,
    "masked": masked.main,
    "mfu": mfu.main,
    "patterns": patterns.main,
    "streaming": streaming.main,
    "training": training.main,
}


def main() -> None:
    names = sys.argv[1:] or list(ALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise SystemExit(f"there is no benchmark {unknown[0]!r}; there are {', '.join(ALL)}")
    for name in names:
        ALL[name]()


if __name__ == "__main__":
    main()
