"""Where clips come from: folders, manifests, data sets, tar files and texts, on this machine or behind a URL.

    for item in open_source("talks/manifest.jsonl"):   Clip or Rejected, lazily, the same again each time

    bundled                                   real speech that travels with the package
    FOLDER, x.wav                             audio; x.txt, x.TextGrid and x.ctm beside it are its text and word times
    x.jsonl, x.csv, x.tsv (and .gz)           manifests, a clip a row; JSON lines without audio are text
    FOLDER/wav.scp                            a Kaldi data directory
    cuts.jsonl, cuts.jsonl.gz                 a Lhotse cut set
    shards/*.tar, shard-{000..010}.tar        WebDataset
    FOLDER of save_to_disk, x.parquet         Hugging Face data sets
    hf://user/name:config@split, user/name    the same through load_dataset, from the hub or a folder
    stream:user/name:config@split             the same row by row
    x.txt, FOLDER of .txt                     text, one document a line
    s3://…, memory://…                        folders, manifests, tar files and texts through fsspec

Nothing is decoded here: a file that turns out to be bad is found, named and counted when the tokenising job opens it.
A row that is bad in itself is yielded as `Rejected` with its reason.
"""

from hocket.data.sources.listing import Source
from hocket.data.sources.opening import BUNDLED, is_manifest_of, open_source, read_clips

__all__ = ["BUNDLED", "Source", "is_manifest_of", "open_source", "read_clips"]
