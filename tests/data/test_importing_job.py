"""An import that is killed goes on and ends with the same bytes; what is there already is told apart."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hocket.codec import CodecIdentity
from hocket.data import Corpus, read_rejected
from hocket.data.importing import ImportSettings, import_codes
from hocket.errors import InputError

CODEC = CodecIdentity(
    name="tiny", revision="1", weight_hash="a" * 64, sample_rate=8000, hop=160, codebook_sizes=(64,) * 4
)
SMALL = ImportSettings(shard_rows=7)

KILLED = """
import os, signal, sys
from test_importing_job import CODEC, SMALL
from hocket.data.importing import import_codes
from hocket.data.tokenizing.workspace import Workspace
commit = Workspace.commit
def until(self, number, *rest):
    os.kill(os.getpid(), signal.SIGKILL) if number == 3 else commit(self, number, *rest)
Workspace.commit = until
import_codes(sys.argv[1], sys.argv[2], CODEC, settings=SMALL)
"""


def write_rows(path, n_rows=40, seed=0, bad=(5, 17, 18)):
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for i in range(n_rows):
            codes = rng.integers(0, 64, (rng.integers(5, 40), 4))
            codes[0, 3] = 64 if i in bad else 0
            file.write(json.dumps({"id": f"row-{i}", "codes": codes.tolist(), "text": f"text {i}"}) + "\n")
    return path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_killed_and_run_again_it_ends_with_the_same_bytes(tmp_path):
    src = write_rows(tmp_path / "rows.jsonl")
    import_codes(src, tmp_path / "whole", CODEC, settings=SMALL)
    command = [sys.executable, "-c", KILLED, str(src), str(tmp_path / "killed")]
    path = os.pathsep.join([os.path.dirname(__file__), os.getcwd()])
    killed = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed/corpus.json").exists()
    said, steps = [], []
    card = import_codes(
        src,
        tmp_path / "killed",
        CODEC,
        settings=SMALL,
        notify=said.append,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert said == [f'going on in "{tmp_path}/killed" after 3 finished shards']
    assert (card.n_examples, card.n_rejected, len(card.shards), steps[-1]) == (37, 3, 6, (40, 40))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    import_codes(src, tmp_path / "killed", CODEC, settings=SMALL, notify=said.append)
    assert said[-1] == f'already done: "{tmp_path}/killed" holds these 37 examples'


def test_a_row_that_repeats_an_id_is_told_after_a_kill_too(tmp_path, monkeypatch):
    src = write_rows(tmp_path / "rows.jsonl")
    lines = src.read_text().splitlines()
    src.write_text("\n".join([*lines, lines[2], lines[5]]) + "\n")
    import_codes(src, tmp_path / "whole", CODEC, settings=SMALL)
    monkeypatch.setattr("hocket.data.importing.job._Importer._advance", lambda self: _count(self, 24))
    with pytest.raises(KeyboardInterrupt):
        import_codes(src, tmp_path / "stopped", CODEC, settings=SMALL)
    monkeypatch.undo()
    card = import_codes(src, tmp_path / "stopped", CODEC, settings=SMALL)
    assert card.n_rejected == 5
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def _count(importer, most):
    importer._done += 1
    if importer._done > most:
        raise KeyboardInterrupt


def test_another_source_codec_or_setting_is_refused(tmp_path):
    src = write_rows(tmp_path / "rows.jsonl")
    import_codes(src, tmp_path / "corpus", CODEC, settings=SMALL)
    with pytest.raises(InputError, match=r"was made with .*shard_rows"):
        import_codes(src, tmp_path / "corpus", CODEC, settings=ImportSettings(shard_rows=8))
    with pytest.raises(InputError, match="is of codec"):
        import_codes(src, tmp_path / "corpus", CODEC.with_levels(3), levels=3, settings=SMALL)
    write_rows(src, seed=1)
    with pytest.raises(InputError, match="was made from the clips of"):
        import_codes(src, tmp_path / "corpus", CODEC, settings=SMALL)


def test_every_split_gets_rows_and_a_row_keeps_its_own(tmp_path):
    src = write_rows(tmp_path / "rows.jsonl", n_rows=4, bad=())
    import_codes(src, tmp_path / "a", CODEC)
    assert {example.split for example in Corpus.open(tmp_path / "a")} == {"train", "valid"}
    rows = [
        json.loads(line) | {"split": "dev" if i == 2 else "train"}
        for i, line in enumerate(src.read_text().splitlines())
    ]
    src.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_codes(src, tmp_path / "b", CODEC)
    assert [example.split for example in Corpus.open(tmp_path / "b")] == ["train", "train", "valid", "train"]


def test_sources_and_targets_behind_urls(tmp_path):
    src = write_rows(tmp_path / "rows.jsonl", n_rows=4, bad=())
    import_codes(src, tmp_path / "local", CODEC)
    import_codes(f"file://{src}", f"file://{tmp_path}/remote", CODEC)
    shards = [contents(tmp_path / name)[next(tmp_path.glob("local/*.arrow")).relative_to(tmp_path / "local")]
              for name in ("local", "remote")]  # fmt: skip
    assert shards[0] == shards[1]


def test_settings_are_checked():
    for name in ("shard_rows", "shard_seconds"):
        with pytest.raises(InputError, match=f"{name} is 0"):
            ImportSettings(**{name: 0})
    with pytest.raises(InputError, match="valid_share is 1"):
        ImportSettings(valid_share=1)


def test_tensors_in_many_types(tmp_path):
    codes_TK = np.arange(40).reshape(10, 4)
    for i, dtype in enumerate([torch.uint8, torch.int16, torch.int64, torch.float16, torch.bfloat16, torch.float64]):
        torch.save(torch.from_numpy(codes_TK).to(dtype), tmp_path / f"{i}.pt")
    np.save(tmp_path / "6.npy", codes_TK.astype(np.uint16))
    np.save(tmp_path / "7.npy", codes_TK.astype(bool))
    card = import_codes(tmp_path, tmp_path / "corpus", CODEC)
    assert (card.n_examples, card.n_rejected) == (7, 1)
    assert all(np.array_equal(example.streams["audio"], codes_TK) for example in Corpus.open(tmp_path / "corpus"))


def test_what_precedes_the_damage_in_a_file_is_kept(tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    codes = np.random.default_rng(0).integers(0, 64, (3000, 4))
    ark, table = tmp_path / "a.ark", tmp_path / "a.parquet"
    kaldiio.save_ark(str(ark), {f"u{i}": codes[:50].astype(np.float32) for i in range(3)})
    pq.write_table(pa.table({"codes": [codes[i : i + 9].tolist() for i in range(2900)]}), table, row_group_size=1500)
    ark.write_bytes(ark.read_bytes()[:-7])
    content, second = bytearray(table.read_bytes()), pq.read_metadata(table).row_group(1).column(0)
    content[second.data_page_offset : second.data_page_offset + 40] = b"x" * 40
    table.write_bytes(content)
    for path, n_kept in ((ark, 2), (table, 1500)):
        card = import_codes(path, tmp_path / f"{path.suffix}-corpus", CODEC)
        assert n_kept - 1000 < card.n_examples <= n_kept
        (bad,) = read_rejected(tmp_path / f"{path.suffix}-corpus")
        assert "damaged" in bad.reason
