"""The page of a comparison in a headless Chromium: players play, curves show, nothing overflows, nothing complains."""

import re

import pytest
from browser import CHROMIUM, Chromium
from made_runs import add_sounds, evaluate, heard, make_run, tasks

from hocket.errors import InputError
from hocket.evaluation.comparison import compare_runs
from hocket.evaluation.comparison.sounds import MOST_BYTES

NAMES = ("delay", "flatten", "a-run-with-a-name-that-is-rather-long-for-a-phone")
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
PLAY = """(async () => {
  const found = [];
  for (const audio of document.querySelectorAll("audio")) {
    const ready = new Promise(resolve => audio.addEventListener("canplay", resolve, { once: true }));
    await audio.play();
    await ready;
    const from = performance.now();
    while (audio.currentTime < 0.05 && performance.now() - from < 8000) await new Promise(r => setTimeout(r, 20));
    found.push([audio.duration, Number(audio.dataset.seconds), audio.currentTime, audio.error]);
    audio.pause();
  }
  return found;
})()"""
CURVES = """[...document.querySelectorAll(".chart:not([hidden] *) polyline")].map(line => {
  const box = line.getBoundingClientRect();
  return [line.getAttribute("points"), box.width + box.height, getComputedStyle(line).stroke];
})"""
OVERFLOW = """[...document.querySelectorAll("main *")].filter(one => {
  const box = one.getBoundingClientRect();
  return box.right > document.documentElement.clientWidth + 1
    && !one.closest(".box *, .scroll *, .plot *, .players *, pre *");
}).map(one => one.outerHTML.slice(0, 80))"""
CONTRAST = """(() => {
  const parts = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = rgb => {
    const [r, g, b] = rgb.map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(parts(getComputedStyle(document.querySelector(".chart")).backgroundColor));
  return [...document.querySelectorAll(".chart .ends span, .chart .facts b, .fine, .lead, td small")].map(one => {
    const ink = light(parts(getComputedStyle(one).color));
    return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
  });
})()"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three runs with sounds, tasks and metrics; the last was not evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [make_run(folder / name, (210.0 - i, 190.0 - i, 170.0 + 4 * i)) for i, name in enumerate(NAMES)]
    for run in runs[:2]:
        evaluate(run, clips=add_sounds(run), heard=heard(), tasks=tasks(), left_out=("UTMOS: no model was named.",))
    return compare_runs(runs, folder / "out")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here (apt-get install chromium): the page is not opened in a browser")
    with Chromium() as started:
        yield started


@pytest.fixture(scope="module", params=SIZES)
def page(browser, written, request):
    """One page for all tests, which leave it as they found it."""
    return browser.open(written.page, *SIZES[request.param])


def test_every_player_plays(page):
    found = page.evaluate(PLAY)
    assert len(found) == 2 * (3 + 2)  # two clips: prompt, original, resynthesis, and two runs
    for duration, stated, now, error in found:
        assert duration == pytest.approx(stated, abs=0.15)
        assert now > 0
        assert error is None
    assert page.errors == []


def test_players_can_be_seen_and_used(page):
    """A real click on the middle of the play button of the browser's own controls."""
    at = page.evaluate("""(() => {
      const audio = document.querySelector("audio");
      audio.scrollIntoView({ block: "center" });
      const box = audio.getBoundingClientRect();
      return [box.left + 17, box.top + box.height / 2, box.width];
    })()""")
    assert at[2] > 200
    where = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, **where)
    page.evaluate("new Promise(r => setTimeout(r, 500))")
    assert page.evaluate("document.querySelector('audio').currentTime") > 0
    page.evaluate("document.querySelector('audio').pause()")


def test_playing_one_stops_the_other_and_moves_its_mark(page):
    page.evaluate("""(async () => {
      const [one, other] = document.querySelectorAll("audio");
      await one.play(); await other.play();
      await new Promise(r => setTimeout(r, 300));
    })()""")
    assert page.evaluate("document.querySelectorAll('audio')[0].paused") is True
    head = "document.querySelectorAll('audio')[1].closest('.player').querySelector('.head').style.left"
    assert float(page.evaluate(head).rstrip("%")) > 0


def test_all_curves_can_be_seen(page):
    found = page.evaluate(CURVES)
    assert (
        len(found) == 3 * 2 + 2 * 2
    )  # of two runs bits over three axes and losses at two levels; the third heard others
    for points, size, colour in found:
        numbers = [float(x) for pair in points.split() for x in pair.split(",")]
        assert len(numbers) >= 4
        assert all(-500 <= x <= 600 for x in numbers)
        assert size > 20
        assert colour not in ("none", "")


def test_the_axis_of_the_losses_can_be_chosen(page):
    shown = "[...document.querySelectorAll('.panels.by')].filter(p => p.offsetHeight > 0).map(p => p.dataset.axis)"
    assert page.evaluate(shown) == ["step"]
    page.evaluate("document.querySelector('.axes input[value=flops]').click()")
    assert page.evaluate(shown) == ["flops"]
    assert "30 GFLOP" in page.evaluate("document.querySelector('.panels.by[data-axis=flops]').innerText")
    page.evaluate("document.querySelector('.axes input').click()")


def test_a_run_can_be_shown_alone(page):
    page.evaluate("document.querySelector('#loss .runs button').click()")
    assert page.evaluate("document.querySelectorAll('#loss .panels:not([hidden]) polyline.dim').length") == 2
    page.evaluate("document.querySelector('#loss .runs button').click()")
    assert page.evaluate("document.querySelectorAll('.dim').length") == 0


def test_nothing_runs_over_the_edge_and_nothing_complains(page):
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [page.width, page.width]
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)") is True
    assert page.errors == []


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_their_ground(browser, written, dark):
    page = browser.open(written.page, *SIZES["desktop"], dark=dark)
    found = page.evaluate(CONTRAST)
    assert len(found) > 20
    assert min(found) >= 4.5


def test_errors_of_a_page_are_seen(browser, tmp_path):
    """Or the tests above would show nothing."""
    path = tmp_path / "bad.html"
    path.write_text("<script>console.error('one'); fetch('https://nowhere.invalid/'); missing()</script>")
    page = browser.open(path, 800, 600)
    page.evaluate("new Promise(r => setTimeout(r, 200))")
    assert len(page.errors) >= 3


def test_the_page_needs_nothing_outside_it(written):
    text = written.page.read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,12})', text)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in text
    assert "url(" not in text


def test_tables_and_pictures_have_names(written):
    text = written.page.read_text()
    assert re.findall(r"<th(?! scope=)[^>]*>", text.replace("<thead>", "")) == []
    assert all("aria-label" in tag for tag in re.findall(r"<(?:audio|svg viewBox=\"0 0 100 100\")[^>]*>", text))
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*", text))


def test_what_is_said_is_escaped_and_shared_sounds_come_once(written):
    text = written.page.read_text()
    assert "&lt;b&gt;delay &amp; co&lt;/b&gt;" in text
    assert "<b>delay & co" not in text
    assert text.count('aria-label="original, one"') == 1
    assert text.count('aria-label="flatten, one"') == 1
    assert "Not evaluated, so no intervals" in text
    assert "UTMOS: no model was named." in text


def test_clips_can_be_limited_and_a_missing_sound_is_named(tmp_path):
    run = make_run(tmp_path / "delay")
    evaluate(run, clips=add_sounds(run, ("one", "two", "three")))
    page = compare_runs([run], tmp_path / "out", clips=1).page
    assert page.read_text().count("<audio") == 4
    assert "1 of the 3 clips" in page.read_text()
    assert page.stat().st_size < MOST_BYTES
    (run / "evaluation" / "30" / "samples" / "0-model.wav").unlink()
    with pytest.raises(InputError, match=r"0-model\.wav.*of clip \"one\" is not there"):
        compare_runs([run], tmp_path / "out")
