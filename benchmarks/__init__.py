"""Side-by-side measurements: hocket and a peer in one process, interleaved, medians, the ratio beside its limit."""
