"""`python -m hocket.training.warmup` builds DeepSpeed's CPU operator once, so that no run waits a minute for it."""

import sys
import time

from hocket.training.config import TrainingGroup
from hocket.training.engine import Engine, why_no_deepspeed


def main() -> None:
    lacking = why_no_deepspeed()
    if lacking is not None:
        print(f"DeepSpeed cannot run here ({lacking}): hocket will train with plain Accelerate", file=sys.stderr)
        return
    start = time.monotonic()
    Engine(TrainingGroup(engine="deepspeed")).close()
    print(f"DeepSpeed is ready ({time.monotonic() - start:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
