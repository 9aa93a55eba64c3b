"""The generator of untrimmed videos: its dependencies and the effect of every field."""

import dataclasses

import numpy as np
import pytest

from jaxtal.data import synthetic
from jaxtal.data.synthetic import features as features_module
from jaxtal.data.synthetic import generate
from jaxtal.data.synthetic.config import PRESETS, SyntheticConfig
from jaxtal.data.synthetic.features import World, _coverage, _features, _noise
from jaxtal.errors import JaxtalError
from tests.data.test_activitynet import entry, write

SMALL = SyntheticConfig(
    num_train=8, num_test=4, num_classes=4, feature_width=32, median_snippets=80, max_snippets=160
)


@pytest.fixture(scope="module")
def dataset():
    return generate(SMALL)


def replace(**fields):
    return dataclasses.replace(SMALL, **fields)


def videos(dataset):
    return (*dataset.train, *dataset.test)


def assert_same_annotations(first, second):
    assert (first.name, first.duration) == (second.name, second.duration)
    for field in ("labels", "segments", "segment_labels", "ambiguous"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


def assert_same(first, second):
    assert_same_annotations(first, second)
    np.testing.assert_array_equal(first.features, second.features)


def latent(monkeypatch, config):
    """Return the latent signals (2, T, L) of the videos of `config`."""
    signals = []
    features = _features

    def keep(config, world, signal):
        signals.append(signal)
        return features(config, world, signal)

    monkeypatch.setattr(features_module, "_features", keep)
    generate(config)
    monkeypatch.undo()
    return signals


def test_same_seed_gives_identical_data(dataset):
    for first, second in zip(videos(dataset), videos(generate(SMALL)), strict=True):
        assert_same(first, second)


def test_other_seed_gives_other_data(dataset):
    other = generate(replace(seed=1))
    assert not np.array_equal(dataset.train[0].features, other.train[0].features)


def test_video_does_not_depend_on_how_many_are_generated(dataset):
    fewer = generate(replace(num_train=5, num_test=1))
    for first, second in zip(fewer.train, dataset.train[:5], strict=True):
        assert_same(first, second)
    assert_same(fewer.test[0], dataset.test[0])


def test_only_the_projection_depends_on_the_width(dataset, monkeypatch):
    wider = generate(replace(feature_width=48))
    for first, second in zip(videos(dataset), videos(wider), strict=True):
        assert_same_annotations(first, second)
        assert second.features.shape == (len(first.features), 96)
    narrow, wide = (latent(monkeypatch, replace(feature_width=width)) for width in (16, 48))
    for first, second in zip(narrow, wide, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("width", [32, 256])
def test_features_look_like_activations(width):
    data = generate(replace(feature_width=width))
    features = np.concatenate([video.features for video in videos(data)]).astype(np.float32)
    assert features.min() >= 0
    assert 0.2 < features.mean() < 0.4
    assert 0.35 < (features < 0.1).mean() < 0.65


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_shapes_and_types(dtype):
    for video in videos(generate(replace(dtype=dtype))):
        snippets = int(video.duration * 25 / 16)
        assert video.features.shape == (snippets, 64)
        assert video.features.dtype == dtype
        assert SMALL.min_snippets <= snippets <= SMALL.max_snippets


def test_generated_annotations():
    data = generate(SyntheticConfig(num_train=150, num_test=100, feature_width=1))
    assert len(set(data.classes)) == 10
    for video in videos(data):
        start, end = video.segments.T
        assert len(start) >= 1
        assert (start >= 0).all()
        assert (end > start).all()
        assert (end <= video.duration).all()
        np.testing.assert_allclose(video.segments * 10, np.rint(video.segments * 10), atol=1e-9)
        np.testing.assert_array_equal(video.labels, np.unique(video.segment_labels))
    two_classes = np.mean([len(video.labels) == 2 for video in videos(data)])
    assert 0.03 < two_classes < 0.2
    assert all(len(video.ambiguous) == 0 for video in data.train)
    assert 0.05 < np.mean([len(video.ambiguous) > 0 for video in data.test]) < 0.3
    inside = [np.diff(video.segments).sum() / video.duration for video in videos(data)]
    assert 0.2 < np.mean(inside) < 0.4


EFFECTS = {
    "background_strength": (0.0, 0.0),
    "backgrounds": 3,
    "backgrounds_per_video": (1, 1),
    "mean_shot": 3.0,
    "venue": (0.0, 0.0),
    "style": (0.0, 0.0),
    "core": (0.0, 0.0),
    "core_fraction": (0.9, 1.0),
    "core_delay": 0.5,
    "sub_modes": 1,
    "sub_mode_share": 0.0,
    "rest": 0.0,
    "generic": 0.0,
    "visibility": (30.0, 1.0),
    "miss_probability": 1.0,
    "miss_gain": 1.0,
    "weak_gain": 1.0,
    "confusable": 0.0,
    "confusable_share": 0.1,
    "context": (0.0, 0.0),
    "context_relation": 0.0,
    "context_one_sided": 0.0,
    "context_probability": 0.0,
    "context_snippets": 1.0,
    "replays": 5.0,
    "lighting": 0.0,
    "captions": 0.0,
    "pans": 0.0,
    "shakes": 0.0,
    "nuisance_probability": (0.0, 0.0),
    "motion_relation": 0.0,
    "smoothing": False,
    "noise": (0.0, 0.0),
    "noise_rho": (0.0, 0.0),
    "gain_spread": 0.0,
    "bias_spread": 0.0,
    "softness": 0.0,
    "mean_feature": 1.0,
}


@pytest.mark.parametrize("field", EFFECTS)
def test_every_field_has_an_effect(dataset, field):
    other = generate(replace(**{field: EFFECTS[field]}))
    pairs = list(zip(videos(dataset), videos(other), strict=True))
    for first, second in pairs:
        assert_same_annotations(first, second)
    assert any(not np.array_equal(first.features, second.features) for first, second in pairs)


def test_nuisances_stay_in_their_modality(dataset):
    half = SMALL.feature_width
    for field, same in (("lighting", slice(half, None)), ("pans", slice(half))):
        other = generate(replace(**{field: 0.0}))
        for first, second in zip(videos(dataset), videos(other), strict=True):
            np.testing.assert_array_equal(first.features[:, same], second.features[:, same])


def test_weak_modality_shows_less_of_the_class(monkeypatch):
    lasting = ("background_strength", "venue", "style", "context", "noise")
    silent: dict = dict.fromkeys(lasting, (0.0, 0.0))
    silent |= dict.fromkeys(("lighting", "captions", "pans", "shakes", "generic"), 0.0)
    config = replace(**silent, num_train=40, num_test=1, second_class=0.0)
    energy = np.array([(s**2).sum(axis=(1, 2)) for s in latent(monkeypatch, config)[:40]])
    label = np.arange(40) % 4
    rgb, flow = (energy[label % 2 == weak].sum(axis=0) for weak in (0, 1))
    assert rgb[0] < 0.7 * rgb[1]
    assert flow[1] < 0.7 * flow[0]


def test_confusable_classes_are_alike_in_one_modality():
    world = World.draw(replace(confusable=1.0), 4)
    cosine = np.einsum("mcl,mdl->mcd", world.action, world.action)
    alike = np.array([[cosine[m, 0, 1], cosine[m, 2, 3]] for m in (0, 1)])
    assert (np.diag(alike) > 0.7).all()
    assert (np.abs([alike[0, 1], alike[1, 0]]) < 0.5).all()


def test_noise_is_stationary_and_autoregressive():
    config = SyntheticConfig(noise=(2.0, 1.0))
    noise = _noise(config, np.random.default_rng(0), 4000)
    np.testing.assert_allclose(np.sqrt((noise**2).sum(-1).mean(-1)), [2.0, 1.0], rtol=0.05)
    correlation = (noise[:, 1:] * noise[:, :-1]).mean((1, 2)) / (noise**2).mean((1, 2))
    np.testing.assert_allclose(correlation, config.noise_rho, atol=0.02)
    starts = [_noise(config, np.random.default_rng(s), 2)[:, 0] for s in range(50)]
    np.testing.assert_allclose(np.square(starts).sum(-1).mean(0), [4.0, 1.0], rtol=0.2)


def test_coverage_of_snippets_by_intervals():
    np.testing.assert_allclose(
        _coverage([0.5, 2.25], [2.0, 2.5], 4), [[0.5, 1, 0, 0], [0, 0, 0.25, 0]]
    )


def test_thumos_annotations(thumos14):
    path = thumos14 / "thumos14.json"
    data = generate(SyntheticConfig(annotations=str(path), feature_width=2))
    assert (len(data.train), len(data.test), len(data.classes)) == (200, 212, 20)
    assert sum(len(video.segments) for video in data.train) == 3007
    assert sum(len(video.segments) for video in data.test) == 3358
    assert sum(len(video.features) for video in data.test) == 71691
    assert data.name == "Synthetic-thumos14"


def test_video_of_a_file_does_not_depend_on_the_others(tmp_path):
    database = {name: entry("train") for name in "abc"} | {"t": entry("test")}
    content = {"classes": ["Jump"], "database": database}
    full = generate(replace(annotations=str(write(tmp_path, content))))
    del database["a"]
    less = generate(replace(annotations=str(write(tmp_path, content))))
    for first, second in zip(less.train, full.train[1:], strict=True):
        assert_same(first, second)


@pytest.mark.parametrize(
    "fields", [{"dtype": "int8"}, {"num_classes": 0}, {"min_snippets": 9, "max_snippets": 5}]
)
def test_impossible_config(fields):
    with pytest.raises(JaxtalError, match="wanted"):
        generate(replace(**fields))


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("demo", {}),
        ("  demo  ", {}),
        ("demo num_train=12 num_classes=3", {"num_train": 12, "num_classes": 3}),
        ("demo num_train=12 num_train=5", {"num_train": 5}),  # the last one counts
        ("demo smoothing=false replays=2", {"smoothing": False, "replays": 2.0}),
        ("demo core=(1,0.5) backgrounds_per_video=1,3",
         {"core": (1.0, 0.5), "backgrounds_per_video": (1, 3)}),
        ("demo 'core=(1, 2)'", {"core": (1.0, 2.0)}),
        ("demo dtype=float32 annotations=a/b.json",
         {"dtype": "float32", "annotations": "a/b.json"}),
        ("demo annotations='my videos.json'", {"annotations": "my videos.json"}),
        (r"demo annotations=C:\a\b.json", {"annotations": r"C:\a\b.json"}),
        ("demo annotations=a#b=c.json", {"annotations": "a#b=c.json"}),
    ],
)  # fmt: skip
def test_a_generator_as_text(text, changes):
    wanted = dataclasses.replace(PRESETS["demo"], **changes)
    assert repr(synthetic.parse(text)) == repr(wanted)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_field_can_be_given_as_text(preset):
    """The values of all presets, written as text, are parsed to the same values."""
    for other in PRESETS.values():
        values = dataclasses.asdict(other)
        words = [f"{name}={value}".replace(" ", "") for name, value in values.items()]
        assert synthetic.parse(" ".join([preset, *words])) == other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dmo", r"'dmo' is not a preset, only demo.*; did you mean demo\?"),
        ("num_train=3", r"'num_train=3' is not a preset, only demo, thumos14; wanted a preset and"),
        (" ", r"config\.data\.generator is ' ': it is empty; wanted a preset and"),
        ("demo 'a", r"config\.data\.generator is \"demo 'a\": No closing quotation"),
        ("demo num_train", r"'num_train' is not FIELD=VALUE; wanted a preset and fields to"),
        ("demo num_trian=3", r"generator has no field 'num_trian'; did you mean num_train\?"),
        ("demo xyz=3", r"has no field 'xyz', only seed, annotations, "),
        ("demo num_train=x", r"num_train is 'x'; wanted int, as in num_train=100"),
        ("demo rest=x", r"generator\.rest is 'x'; wanted float, as in rest=1\.2"),
        ("demo smoothing=2", r"smoothing is '2'; wanted true or false, as in smoothing=true"),
        ("demo core=1", r"core is '1'; wanted two of float, as in core=\(1\.5,1\.5\)"),
        ("demo core=(1,2,3)", r"core is '\(1,2,3\)'; wanted two of float"),
        ("demo core=(1,a)", r"core is '\(1,a\)'; wanted two of float"),
        ("demo backgrounds_per_video=(1,2.5)", r"wanted two of int, as in .*=\(2,5\)"),
        ("demo core=(1, 2)", r"core is '\(1,'; wanted two of float"),
    ],
)
def test_invalid_texts(text, message):
    with pytest.raises(JaxtalError, match=message) as raised:
        synthetic.parse(text)
    assert "\n" not in str(raised.value)
