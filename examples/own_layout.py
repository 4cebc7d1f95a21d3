"""A layout of your own against MusicGen's delay: bits per second of held-out bundled speech, lower is better."""

import math
import tempfile

import torch

from hocket.codec import load_codec
from hocket.data import Corpus, PackedLoader, one_pass, tokenize
from hocket.interleave import Delay, draw_text
from hocket.model import Model, ModelConfig
from hocket.vocab import Vocabulary

LAYOUTS = {"delay": Delay("audio[:8]"), "pairs": Delay("audio", [0, 0, 1, 1, 2, 2, 3, 3])}  # pairs drain 4 steps sooner

codec = load_codec("bundled")
folder = tempfile.mkdtemp()
tokenize("bundled", folder, codec)
train, valid = (Corpus.open(folder).split(name) for name in ("train", "valid"))
vocabulary = Vocabulary.build(streams={"audio": codec.codebook_sizes})
config = ModelConfig(dim=192, n_layers=3, n_heads=3, n_kv_heads=3, ffn_dim=512, embeddings="codebooks", dropout=0.2)
for name, layout in LAYOUTS.items():
    print(f"{name}: {layout}\n" + draw_text(layout.plan({"audio": 6})))
    model = Model.build(config, vocabulary, layout, codec.identity, codebooks={"audio": codec.codebooks or []}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)
    loader = PackedLoader(train, layout, vocabulary, batch_steps=1024, context=512, seed=0)
    for _ in range(100):
        loss = model(next(loader))
        (loss.total / loss.weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        batches = list(one_pass(valid, layout, vocabulary, batch_steps=4096, context=512))
        nats = sum(float(model.eval()(batch).total) for batch in batches)
    seconds = sum(batch.n_frames for batch in batches) / float(codec.frame_rate)
    print(f"{name}: {nats / math.log(2) / seconds:.0f} bits per second\n")
