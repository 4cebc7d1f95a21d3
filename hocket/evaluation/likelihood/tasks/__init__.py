"""Paired tasks: sWUGGY, sBLIMP, spoken and topic StoryCloze, SALMon, from local folders as they are published.

`zerospeech`, `storycloze` and `salmon` read and count them as the official scripts do, `running` scores them, `tiny`
makes small sets of the same formats from any speech, to try things out.
"""

from hocket.evaluation.likelihood.tasks.pairs import Judged, Pair, TaskKind
from hocket.evaluation.likelihood.tasks.running import TASKS, find_task, run_task
from hocket.evaluation.likelihood.tasks.tiny import make_tiny_task

__all__ = ["TASKS", "Judged", "Pair", "TaskKind", "find_task", "make_tiny_task", "run_task"]
