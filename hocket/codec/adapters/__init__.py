"""Codecs that others published, each behind the same door: transformers' classes and Lyra's SoundStream.

transformers_codec  loading, identity and saving of transformers' classes; stacks of equal length
seanet, lanes, seanet_codec   causal convolutions, LSTM and attention with explicit state: EnCodec at 24 kHz, Mimi
context             windows and streams of convolutions that look ahead a finite way: DAC, decoders of X-Codec
encodec, mimi, dac, xcodec, xcodec2, lyra   the adapters; `load_codec` imports the one that a folder needs
"""
