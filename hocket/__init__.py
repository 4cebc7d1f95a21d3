"""hocket trains and samples language models over audio codec tokens.

Any frozen codec in, any interleaving of text and codebook streams, one decoder-only transformer.
"""

__version__ = "0.1.0"
