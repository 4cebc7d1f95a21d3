"""Importing: codes that another toolkit made already become a corpus, without audio and without a codec's weights.

    source ──entries──▶ rows as they stand ──rules: axes, range, clock, codec──▶ codes [T, K] ──▶ shards of a corpus

`opening` finds which kind a source is; `arrays`, `json_lines`, `unit_lines`, `tables` and `kaldi` read the kinds;
`rules` checks each row; `identity` says whose codes they are; `verifying` encodes some recordings again to see that it
is true; `job` is the whole.
"""

from hocket.data.importing.identity import read_identity
from hocket.data.importing.job import ImportSettings, import_codes
from hocket.data.importing.opening import open_codes
from hocket.data.importing.verifying import Verification

__all__ = ["ImportSettings", "Verification", "import_codes", "open_codes", "read_identity"]
