"""The report's page: its content, hostile names, the script in Chromium."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxtal.data.dataset import Dataset
from jaxtal.errors import JaxtalError
from jaxtal.reporting import html, video_browser
from jaxtal.reporting.runs import Run, groups
from tests.helpers.drawn_runs import browse, chromium, drawn_runs

EVIL = (
    "</script><script>document.documentElement.dataset.owned=1</script>",
    '<img src=x onerror="document.documentElement.dataset.owned=1">',
    "\"'><svg onload=document.documentElement.dataset.owned=1>",
    "{{ 7 * 7 }} <!-- &lt;b&gt; </style> \u2028 \\",
)


def renamed(runs: list[Run], names: tuple[str, ...]) -> list[Run]:
    """Return the runs with other names of videos, classes, data set and runs."""
    truth = runs[0].truth
    videos = tuple(
        dataclasses.replace(video, name=f"{names[index % len(names)]} v{index}")
        for index, video in enumerate(truth.test)
    )
    classes = tuple(f"{names[index % len(names)]} {index}" for index in range(len(truth.classes)))
    truth = Dataset(names[0], classes, (), videos, truth.grid)
    made = []
    for run, name in zip(runs, names, strict=False):
        models = [dataclasses.replace(model, name=name, truth=truth) for model in run.models]
        rows = [row._replace(name=name) for row in run.result.rows]
        result = run.result._replace(data=names[0], rows=rows)
        made.append(
            dataclasses.replace(
                run, name=name, truth=truth, models=models, result=result, missing=[name]
            )
        )
    return made


@pytest.fixture(scope="module")
def trained():
    return drawn_runs(5, 2, classes=9)


@pytest.fixture(scope="module")
def runs(trained):
    """Runs without training curves, which take long to draw."""
    return [dataclasses.replace(run, metrics=[]) for run in trained]


class Elements(HTMLParser):
    """Name and attributes of every element, and the text outside of scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text, self.raw = "", {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        inside = self.found[-1][0] if self.found else ""
        if self.cdata_elem:
            self.raw[inside].append(data)
        else:
            self.text += data


def test_names_are_text_everywhere(runs):
    plain, evil = (Elements(html.render(renamed(runs, names))) for names in (("name", "b"), EVIL))
    assert [tag for tag, _ in plain.found] == [tag for tag, _ in evil.found]
    assert [sorted(attrs) for _, attrs in plain.found] == [sorted(attrs) for _, attrs in evil.found]
    assert len(evil.raw["script"]) == 2
    for name in EVIL[:2]:
        assert name in evil.text
    data = json.loads(evil.raw["script"][0])
    assert data == json.loads(json.dumps(video_browser.content(groups(renamed(runs, EVIL)), 500)))
    assert data["groups"][0]["videos"][0]["name"] == f"{EVIL[0]} v0"


def test_the_same_runs_make_the_same_page_and_it_fetches_nothing(trained):
    text = html.render(trained[:1])
    assert html.render(trained[:1]) == text
    elements = Elements(text)
    pictures = [attributes["src"] for tag, attributes in elements.found if tag == "img"]
    assert len(pictures) == 2
    assert all(address.startswith("data:image/svg+xml;base64,") for address in pictures)
    addresses = [a["href"] for _, a in elements.found if "href" in a]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}  # a name space
    (policy,) = [a["content"] for _, a in elements.found if "http-equiv" in a]
    assert policy.startswith("default-src 'none'; img-src data:; ")


def test_ap_by_class_averages_to_the_result(runs):
    (section,) = [html._section(group) for group in groups(runs)]
    for index, run in enumerate(runs):
        mean = np.mean([values[index] for _, _, values in section.classes.rows])
        column = f"mean {section.classes.average}"
        assert mean == pytest.approx(run.result.rows[0].official.last[column].mean)
    assert sum(count for _, count, _ in section.classes.rows) == len(
        runs[0].models[0].evaluation.truth
    )


def test_runs_without_annotations_and_metrics(runs):
    bare = [dataclasses.replace(run, models=[], truth=None) for run in runs]
    elements = Elements(html.render(bare))
    assert json.loads(elements.raw["script"][0])["groups"] == []
    for text in ("No run has a metrics.jsonl", "to evaluate", "to show", runs[0].name):
        assert text in elements.text
    assert not [tag for tag, _ in elements.found if tag in ("img", "select")]


def test_few_videos_of_many(runs, tmp_path):
    path = tmp_path / "report.html"
    assert html.write(path, runs, videos=2) == path.stat().st_size
    elements = Elements(path.read_text())
    assert "2 of 5 test videos" in " ".join(elements.text.split())
    (group,) = json.loads(elements.raw["script"][0])["groups"]
    assert [video["name"][-1] for video in group["videos"]] == ["0", "2"]


def test_a_folder_whose_name_is_not_unicode(runs, tmp_path):
    named = [dataclasses.replace(runs[0], name="run\udce9", models=[])]
    html.write(tmp_path / "report.html", named)
    assert "run&#56553;" in (tmp_path / "report.html").read_text()


def test_metrics_that_cannot_be_drawn(runs):
    damaged = dataclasses.replace(runs[0], metrics=[{"step": 1, "map": {}, "average": {"x": "y"}}])
    with pytest.raises(JaxtalError, match=r"run_0, metrics.jsonl: .*; wanted metrics.jsonl as"):
        html.render([damaged])


@pytest.fixture(scope="module")
def opened(runs, tmp_path_factory):
    """Open the report of two runs with hostile names in Chromium."""
    program = chromium()
    if program is None:
        pytest.skip("no chromium on PATH to open the report with")
    path = tmp_path_factory.mktemp("report") / "report.html"
    html.write(path, renamed(runs, EVIL[:2]))

    def open_at(events: str = "", **state) -> Elements:
        """Return the elements at an address with a state, after the script `events` has run."""
        fragment = "&".join(f"{name}={value}" for name, value in state.items())
        opened = path
        if events:  # a page with the policy would not run them
            text = re.sub("<meta http-equiv[^>]*>", "", path.read_text())
            opened = path.with_name("events.html")
            opened.write_text(text.replace("</body>", f"<script>{events}</script></body>"))
        dom, console = browse(program, f"{opened.as_uri()}#{fragment}")
        assert console == ""
        return Elements(dom)

    return open_at


def marked(elements: Elements, kind: str) -> list[dict]:
    """Return the attributes of the elements of a class."""
    return [a for _, a in elements.found if kind in (a.get("class") or "").split()]


def test_the_browser_draws_and_the_slider_hides(runs, opened):
    (group,) = video_browser.content(groups(renamed(runs, EVIL[:2])), 500)["groups"]
    video = group["videos"][0]
    elements = opened(best=100)
    (root,) = [attributes for tag, attributes in elements.found if tag == "html"]
    assert float(root["data-ready"]) > 0
    assert "data-owned" not in root
    assert len(marked(elements, "truth")) == len(video["truth"])
    assert len(marked(elements, "ambiguous")) == len(video["ambiguous"]) > 0
    assert len(marked(elements, "attention")) == 2
    assert len(marked(elements, "curve")) == sum(len(c["classes"]) for c in video["curves"])
    for share, shown in ((100, elements), (2, opened(best=2))):
        bars = marked(shown, "found")
        for index, (model, found) in enumerate(zip(group["models"], video["found"], strict=True)):
            least = model["least"][video_browser.SHARES.index(share)]
            kept = [k for s, k in zip(found["score"], found["kind"], strict=True) if s >= least]
            own = [bar for bar in bars if bar["data-model"] == str(index)]
            assert len(own) == len(kept)
            right = [bar for bar in own if "right" in bar["class"].split()]
            assert len(right) == kept.count(0)
    assert 0 < len(bars) < sum(found["all"] for found in video["found"])


def test_the_address_selects_video_and_filter(runs, opened):
    (group,) = video_browser.content(groups(renamed(runs, EVIL[:2])), 500)["groups"]
    video = group["videos"][3]
    number = video["truth"][0][0]
    state = {"group": group["title"], "video": video["name"], "filter": group["classes"][number]}
    quoted = {name: "".join(f"%{b:02X}" for b in text.encode()) for name, text in state.items()}
    elements = opened(**quoted)
    (timeline,) = [a for _, a in elements.found if "data-duration" in a]
    assert float(timeline["data-duration"]) == video["duration"]
    left = [v for v in group["videos"] if number in [label for label, *_ in v["truth"]]]
    options = [attributes for tag, attributes in elements.found if tag == "option"]
    assert len(options) == len(left) < len(group["videos"])


EVENTS = """
const byId = (id) => document.getElementById(id);
const seen = [];
const see = () => seen.push([
  Number(byId("video").value), byId("kept").textContent, document.querySelectorAll(".found").length,
  new URLSearchParams(location.hash.slice(1)).get("best"),
]);
const press = (key, target) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const enter = (id, value) => {
  byId(id).value = value;
  byId(id).dispatchEvent(new Event("input", { bubbles: true }));
};
press("ArrowRight", document.body); see();
press("ArrowRight", byId("share")); see(); // the slider handles the key itself
byId("next").click(); see();
press("ArrowLeft", document.body); see();
enter("share", 0); see();
enter("share", 12); see();
enter("filter", "V4"); see(); // the name of one video
enter("filter", "nothing is called so"); see();
document.documentElement.dataset.seen = JSON.stringify(seen);
"""


def test_keys_buttons_slider_and_filter(runs, opened):
    (group,) = video_browser.content(groups(renamed(runs, EVIL[:2])), 500)["groups"]

    def bars(video: int, share: int) -> int:
        at = video_browser.SHARES.index(share)
        found = zip(group["models"], group["videos"][video]["found"], strict=True)
        return sum(score >= model["least"][at] for model, own in found for score in own["score"])

    elements = opened(EVENTS, best=10)
    (root,) = [attributes for tag, attributes in elements.found if tag == "html"]
    states = [(1, 10), (1, 10), (2, 10), (1, 10), (1, 1), (1, 100), (4, 100), (4, 100)]
    assert json.loads(root["data-seen"]) == [
        [video, f"{share} %", bars(video, share), str(share)] for video, share in states
    ]
