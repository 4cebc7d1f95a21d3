"""Progress says how far and how long, on terminals and in logs."""

import io

import pytest

from hocket.progress import ProgressBar, format_seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with ProgressBar("tokenise", stream=stream, interval=0) as bar:
        bar.update(1, 4, "slow")
        bar.update(4, 4)
    assert stream.getvalue().splitlines() == ["tokenise:  25 %, slow", "tokenise: 100 %", "tokenise: 100 %"]


def test_plain_lines_are_occasional():
    stream = io.StringIO()
    with ProgressBar("tokenise", stream=stream) as bar:
        for done in range(101):
            bar.update(done, 100)
    assert stream.getvalue() == "tokenise: 100 %\n"


def test_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with ProgressBar("tokenise", note=lambda bar: f"at {bar.done:g}", stream=stream) as bar:
        bar.update(5, 10)
    assert "tokenise" in stream.getvalue()
    assert "50%" in stream.getvalue()
    assert "at 5" in stream.getvalue()


def test_speed_counts_only_what_is_done_now(monkeypatch):
    now = 100.0
    monkeypatch.setattr("hocket.progress.time.monotonic", lambda: now)
    bar = ProgressBar("tokenise", stream=io.StringIO())
    bar.update(50, 100)
    assert (bar.rate, bar.time_left) == (0.0, "")
    now = 110.0
    bar.update(70, 100)
    assert (bar.rate, bar.time_left) == (2.0, "15 s left")


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (200, "3 min 20 s"), (18432, "5 h 7 min")])
def test_durations_in_words(seconds, words):
    assert format_seconds(seconds) == words
