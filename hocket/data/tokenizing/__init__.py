"""The tokenising job: clips in, a corpus of codes out, a shard at a time; killed and run again, it goes on.

`job` is the whole, `splits` surveys the source, `runs` cuts it into shards, `reading` prepares samples ahead in worker
processes, `encoding` makes codes of them, `workspace` is the folder meanwhile. `on_ray` does the same on a cluster.
"""

from hocket.data.tokenizing.encoding import StreamCodec
from hocket.data.tokenizing.job import Settings, tokenize
from hocket.data.tokenizing.workspace import read_rejected

__all__ = ["Settings", "StreamCodec", "read_rejected", "tokenize"]
