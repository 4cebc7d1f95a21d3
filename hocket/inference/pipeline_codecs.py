"""Of which codec each stream of a cascade is, and where to find it."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from hocket.codec import Codec, CodecIdentity, load_codec
from hocket.errors import InputError, did_you_mean
from hocket.inference.cascade import CascadeStage
from hocket.vocab import ALIGNED_TEXT


class StreamCodecs:
    """The codecs of the streams of some stages.

    Args:
        sources: by stream, where its codec is found, where the checkpoints do not say so.

    Raises:
        InputError: a source is of no stream, or the frame rate of a stream is not known.
    """

    def __init__(self, stages: Sequence[CascadeStage], sources: Mapping[str, str]):
        self._stages, self._sources = stages, sources
        self._opened: dict[str, Codec] = {}
        streams = list(dict.fromkeys(name for stage in stages for name in stage.levels))
        for name in sources:
            if name not in streams:
                raise InputError(f'codecs: no stage has a stream "{name}"' + did_you_mean(name, streams))
        self.identities = self._find_identities()
        """The codec of each stream of codes, with the most levels that a stage knows of it."""

    @property
    def rates(self) -> dict[str, Fraction]:
        """Frames a second of all streams that run on the clock of the recording."""
        rates: dict[str, Fraction] = {}
        for stage in self._stages:
            for name in stage.timed:
                identity = stage.model.codec_identity if name == ALIGNED_TEXT else self.identities.get(name)
                if identity is None:
                    raise InputError(
                        f'no checkpoint says how many frames a second "{name}" has: add {name}=FOLDER, where its codec '
                        "is, to the checkpoints"
                    )
                rates[name] = identity.frame_rate
        if not rates:
            raise InputError("a pipeline makes codes, and no stage has any but those of another recording")
        return rates

    def open(self, stream: str) -> Codec:
        """The codec of a stream: where `sources` say, or a checkpoint that speaks it.

        Raises:
            InputError: nothing says where it is, or it is another one than the models learned.
        """
        if stream not in self._opened:
            self._opened[stream] = self._named(stream) if stream in self._sources else self._known(stream)
        return self._opened[stream]

    def _named(self, stream: str) -> Codec:
        identity, source = self.identities[stream], self._sources[stream]
        codec = load_codec(source, levels=identity.levels)
        if codec.identity.fingerprint != identity.fingerprint:
            raise InputError(
                f'"{stream}" was learned as codes of codec "{identity.name}" with fingerprint {identity.fingerprint}; '
                f'"{source}" is {codec.identity.fingerprint}'
            )
        return codec

    def _known(self, stream: str) -> Codec:
        reason = "no checkpoint says where its codec is"
        advice = f"add {stream}=FOLDER to the checkpoints, or codecs: {{{stream}: FOLDER}} to a pipeline file"
        for stage in self._stages:
            if stage.model.codec_identity == self.identities[stream]:
                try:
                    return stage.model.codec
                except InputError as error:
                    reason = str(error)
        raise InputError(f'the prompt must be encoded as "{stream}": {reason}; {advice}')

    def _find_identities(self) -> dict[str, CodecIdentity]:
        found: dict[str, CodecIdentity] = {}
        for stage in self._stages:
            for stream in stage.levels:
                identity = stage.identity(stream)
                if identity and (stream not in found or identity.levels > found[stream].levels):
                    found[stream] = identity
        unknown = [stream for stream in self._sources if stream not in found]
        return found | {stream: load_codec(self._sources[stream]).identity for stream in unknown}
