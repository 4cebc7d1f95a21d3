"""Where clips come from: folders, manifests, data sets and texts, on this machine or behind a URL.

    for item in open_source("talks/manifest.jsonl"):   Clip or Rejected, lazily, the same again each time

Nothing is decoded here: a file that turns out to be bad is found, named and counted when the tokenising job opens it.
A row that is bad in itself is yielded as `Rejected` with its reason.
"""

from hocket.data.sources.listing import Source
from hocket.data.sources.opening import BUNDLED, open_source, read_clips

__all__ = ["BUNDLED", "Source", "open_source", "read_clips"]
