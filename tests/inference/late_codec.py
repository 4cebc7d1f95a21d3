"""A codec for tests of streams: sound says which codes it is of and what came before, and comes a frame late."""

import torch


class LateCodec:
    """A frame is the mean of its codes plus a half of the frame before it."""

    hop, sample_rate, input_rate, device, frame_rate = 4, 100, 100, torch.device("cpu"), 25
    streams_decoding = can_decode = True

    def decode(self, codes):
        stream = LateDecoder()
        wavs = [torch.cat([stream.push(item_TK), stream.finish()]) for item_TK in codes.tokens_BTK]
        return torch.stack(wavs)

    def stream_decoder(self):
        return LateDecoder()


class LateDecoder:
    def __init__(self):
        self.last, self.held = torch.zeros(()), torch.zeros(0)

    def push(self, codes_TK):
        given = []
        for codes_K in codes_TK.float():
            self.last = codes_K.mean() + self.last / 2
            given.append(self.held)
            self.held = self.last.repeat(LateCodec.hop)
        return torch.cat(given) if given else torch.zeros(0)

    def finish(self):
        return self.held
