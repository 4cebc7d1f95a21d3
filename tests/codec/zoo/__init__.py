"""Tiny codecs of every kind, with random weights, as folders that `load_codec` opens.

Each module here holds `BUILDERS`: by name, a function that writes a codec folder into an empty folder and returns
what `load_codec` takes. `test_every_codec` runs the promises over all of them.
"""

from collections.abc import Callable
from pathlib import Path

from tests.codec.zoo import dac, lyra, seanet, spectral, units, xcodec, xcodec2

Builder = Callable[[Path], str | Path]

BUILDERS: dict[str, Builder] = {
    **dac.BUILDERS,
    **lyra.BUILDERS,
    **seanet.BUILDERS,
    **spectral.BUILDERS,
    **units.BUILDERS,
    **xcodec.BUILDERS,
    **xcodec2.BUILDERS,
}
