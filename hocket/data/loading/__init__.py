"""Loading: from corpora to packed batches at training time, mixed, in a seeded order, resumed exactly.

`mixture` is several corpora as one, `contents` what their examples hold of a layout's streams (`tokens` are texts,
encoded once), `segments` cuts what is too long, `documents` makes batches of segments, `order` says in which sequence,
`packing` which of them share a batch, `loader` is all of it as an endless iterator, `workers` make batches ahead.
"""

from hocket.data.loading.batch import Batch
from hocket.data.loading.documents import Documents, Facts, Hide
from hocket.data.loading.loader import PackedLoader, one_pass
from hocket.data.loading.mixture import Mixture, parse_mixture
from hocket.data.loading.packing import pack

__all__ = ["Batch", "Documents", "Facts", "Hide", "Mixture", "PackedLoader", "one_pass", "pack", "parse_mixture"]
