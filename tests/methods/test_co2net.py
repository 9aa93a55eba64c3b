"""CO2-Net's network and variants (sizes, initial values, plain loops), batches and configs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import co2net_anet12, co2net_demo, co2net_thumos
from jaxtal.checkpoint_conversion import parameter_names
from jaxtal.data.dataset import Dataset, Video
from jaxtal.errors import JaxtalError
from jaxtal.inference.restore import config_from
from jaxtal.input_pipeline.packing import pack
from jaxtal.methods import co2net
from jaxtal.nn.layers import Dropout
from jaxtal.training.workdir import Workdir
from tests.helpers.contexts import drawn
from tests.oracles import co2net as co2net_oracle

C, WIDTH = 4, 24


def network(classes: int, **fields):
    """The network of the THUMOS14 config with some fields changed."""
    return co2net.METHOD.build({**co2net_thumos.get_config().model, **fields}, classes)


MODEL = network(C)
PARAMS = MODEL.init(jax.random.key(0), jnp.zeros((1, 2, WIDTH)), jnp.ones((1, 2), bool))


# The rows of the paper's Tables 5 and 6 (docs/methods/co2net.md, co2net-fusion).
VARIANTS = {
    "local, local": {"ccm_main": "local"},
    "local, global": {"ccm_main": "local", "ccm_auxiliary": "global"},
    "global, global": {"ccm_auxiliary": "global"},
    "add": {"fusion": "add"},
    "concat": {"fusion": "concat"},
    "se": {"fusion": "se"},
    "ssma": {"fusion": "ssma"},
}


def shapes(fields: dict, width: int = 2048) -> dict:
    """Shapes of the parameters with C = 20."""
    model = network(20, **fields)
    x, mask = jnp.zeros((1, 1, width)), jnp.ones((1, 1), bool)
    return jax.eval_shape(model.init, jax.random.key(0), x, mask)


# Numbers of weights and biases by hand, D = 1024 (docs/methods/co2net.md, co2net-parameters).
ATTENTIONS = 2 * (1_573_376 + 786_944 + 513)
CLASSIFIER = 12_584_960 + 2049 * 21
FUSION = 4_196_352
LOCAL, GLOBAL = 3_146_752, 1_049_600  # 3 * 1024 * 1024 + 1024; one tap of the three
COUNTS = {
    # The published global layers have three taps, of which one has an effect and is kept here.
    "": 34_133_015 - 2 * 2 * 1024 * 1024,
    "local, local": ATTENTIONS + 4 * LOCAL + FUSION + CLASSIFIER,
    "local, global": ATTENTIONS + 2 * LOCAL + 2 * GLOBAL + FUSION + CLASSIFIER,
    "global, global": ATTENTIONS + 4 * GLOBAL + FUSION + CLASSIFIER,
    "add": ATTENTIONS + (1024 * 2048 + 2048) + CLASSIFIER,
    "concat": ATTENTIONS + FUSION + CLASSIFIER,
    "se": ATTENTIONS + 2 * (1024 * 64 + 64 + 64 * 1024 + 1024) + FUSION + CLASSIFIER,
    "ssma": ATTENTIONS
    + (3 * 2048 * 128 + 128 + 3 * 128 * 2048 + 2048)
    + (3 * 2048 * 2048 + 2048)
    + CLASSIFIER,
}


@pytest.mark.parametrize("name", COUNTS)
def test_number_of_parameters(name):
    shape = shapes(VARIANTS.get(name, {}))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shape)) == COUNTS[name]


def test_initial_values():
    params = network(20).init(jax.random.key(0), jnp.zeros((1, 1, 256)), jnp.ones((1, 1), bool))[
        "params"
    ]
    bounds = {
        ("cls0", "kernel"): math.sqrt(6 / (3 * 256)),
        ("fusion", "kernel"): math.sqrt(6 / 256),
        ("ccm_rgb", "local", "kernel"): math.sqrt(6 / (3 * 128)),
        ("ccm_flow", "global", "kernel"): math.sqrt(6 / (3 * 128)),
    }
    for path, bound in bounds.items():
        value = params
        for part in path:
            value = value[part]
        assert 0.98 * bound < jnp.abs(value).max() <= bound
        assert abs(value.std() - bound / math.sqrt(3)) < 0.02 * bound
    assert not np.any(params["cls1"]["bias"])


def draw(seed: int, lengths, time: int):
    rng = np.random.default_rng(seed)
    x = rng.random((len(lengths), time, WIDTH)).astype(np.float32)
    return x, np.arange(time) < np.asarray(lengths)[:, None]


def test_dropout_is_on_in_training_only():
    x, mask = draw(1, (9,), 9)
    first, second = (
        MODEL.apply(PARAMS, x, mask, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    )
    assert (first["cas"] != second["cas"]).any()
    # Dropout on the attention's logit sets half of the attentions of a modality to exactly 0.5.
    many = [
        MODEL.apply(PARAMS, x, mask, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in range(40)
    ]
    half = np.mean([np.asarray(output["attention_rgb"]) == 0.5 for output in many])
    assert half == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"pool_window": 13},
        {"classifier": "paper"},
        {"ccm_dropout": "paper"},
        {
            "attention_unit": "paper",
            "classifier": "paper",
            "ccm_dropout": "paper",
            "pool_window": 5,
        },
    ],
    ids=str,
)
def test_the_network_equals_the_loops(fields):
    model = network(C, **fields)
    x, mask = draw(2, (9, 4, 1), 9)
    params = model.init(jax.random.key(3), x, mask)["params"]
    params = jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params
    )
    outputs = jax.jit(model.apply)({"params": params}, x, mask)
    for row, length in enumerate((9, 4, 1)):
        wanted = co2net_oracle.network(params, np.float64(x[row, :length]), **fields)
        assert set(outputs) == set(wanted)
        for name, value in wanted.items():
            got = outputs[name][row, :length]
            np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "fields", [*VARIANTS.values(), {"fusion": "se", "classifier": "paper"}], ids=str
)
def test_a_variant_equals_the_loops(fields):
    """For any values behind the mask and any order of videos; every parameter has a gradient."""
    model, lengths, order = network(C, **fields), np.array([9, 4, 1, 0]), np.array([2, 0, 3, 1])
    rng = np.random.default_rng(5)
    x = rng.random((4, 12, 64), np.float32)  # also behind the mask
    mask = np.arange(12) < lengths[:, None]
    variables = jax.eval_shape(model.init, jax.random.key(0), x, mask)
    variables = jax.tree.map(lambda p: 0.3 * rng.normal(size=p.shape).astype(np.float32), variables)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def run(variables, x, mask):
        """Compute the gradient of a sum over the valid snippets, and the outputs."""
        outputs = model.apply(variables, x, mask)
        of_snippet = sum(jnp.sin(value).sum(-1) for value in outputs.values())
        return jnp.where(mask, of_snippet, 0).sum(), outputs

    (gradient, of_x), outputs = run(variables, x, mask)
    for row, length in enumerate(lengths[:3]):
        wanted = co2net_oracle.network(variables["params"], np.float64(x[row, :length]), **fields)
        assert set(outputs) == set(wanted)
        for name, value in wanted.items():
            got = outputs[name][row, :length]
            np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-4, err_msg=name)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert np.isfinite(of_x).all()
    assert not np.any(np.asarray(of_x)[~mask])
    _, permuted = run(variables, x[order], mask[order])
    for name, value in outputs.items():
        value = np.asarray(value)[order][mask[order]]
        got = np.asarray(permuted[name])[mask[order]]
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_initial_values_of_the_variants():
    """Global layers have the bound of three taps; the layers of SE are dense."""
    x, mask = jnp.zeros((1, 1, 256)), jnp.ones((1, 1), bool)
    for fields, path, inputs in (
        ({"ccm_main": "local", "ccm_auxiliary": "global"}, "ccm_rgb/global_auxiliary", 3 * 128),
        ({"ccm_main": "local"}, "ccm_flow/local_main", 3 * 128),
        ({"fusion": "se"}, "se_rgb/squeeze", 128),
        ({"fusion": "ssma"}, "ssma/squeeze", 3 * 256),
        ({"fusion": "add"}, "fusion", 128),
    ):
        # XLA removes the computations that the result does not depend on.
        kernel = jax.jit(
            lambda model, path: flatten_dict(model.init(jax.random.key(0), x, mask), sep="/")[
                f"params/{path}/kernel"
            ],
            static_argnums=(0, 1),
        )(network(C, **fields), path)
        bound = math.sqrt(6 / inputs)
        assert 0.98 * bound < jnp.abs(kernel).max() <= bound


DROPOUTS = {
    # Field: module, and (share of zeros, channels) of the result of every dropout in it.
    "attention_unit": (
        "ccm_rgb/attention",
        {"code": [(0.5, WIDTH // 4), (0.5, 1)], "paper": [(0.7, WIDTH // 4), (0.7, WIDTH // 4)]},
    ),
    "ccm_dropout": (
        "ccm_flow",
        {"code": [(0.5, WIDTH // 2), (0.5, WIDTH // 2)], "paper": []},
    ),
    "classifier": (
        "",
        {"code": [(0.7, WIDTH), (0.91, WIDTH), (0.7, WIDTH)], "paper": [(0.7, WIDTH)] * 2},
    ),
}


@pytest.mark.parametrize(
    ("field", "reading"), [(f, r) for f in DROPOUTS for r in ("code", "paper")]
)
def test_dropout_is_placed_as_configured(field, reading):
    x, mask = draw(4, [60] * 8, 60)
    model = network(C, **{field: reading})
    variables = model.init(jax.random.key(0), x, mask)
    _, seen = model.apply(
        variables, x, mask, train=True, rngs={"dropout": jax.random.key(1)},
        capture_intermediates=lambda module, _: isinstance(module, Dropout),
        mutable="intermediates",
    )  # fmt: skip
    place, wanted = DROPOUTS[field]
    node = seen["intermediates"]
    for part in place.split("/") if place else ():
        node = node.get(part, {})
    found = [node[name]["__call__"][0] for name in sorted(node) if name.startswith("Dropout")]
    assert [x.shape[-1] for x in found] == [channels for _, channels in wanted[reading]]
    for value, (zeros, _) in zip(found, wanted[reading], strict=True):
        if value.shape[1] > 1:  # the global context has too few entries to count
            assert np.mean(np.asarray(value) == 0) == pytest.approx(zeros, abs=0.05)


def flat_videos(lengths, labels) -> tuple[Video, ...]:
    """Videos with constant features: the video's number, from 1, and 0 for the last."""
    empty = np.empty((0, 2))
    values = [*range(1, len(lengths)), 0]
    return tuple(
        Video(f"v{i}", 9.0, np.array([label]), empty, empty[:, 0], empty,
              np.full((length, 2), value, np.float32))
        for i, (length, label, value) in enumerate(zip(lengths, labels, values, strict=True))
    )  # fmt: skip


def test_short_videos_are_in_pairs_only_and_zero_videos_in_no_pair():
    config = co2net_anet12.get_config()
    config.data.num_snippets = 3
    data = pack(flat_videos([11, 10, 30, 2, 40], [0, 0, 1, 1, 1]), 2)
    keys = jax.random.split(jax.random.key(0), 300)
    batch = jax.vmap(lambda key: drawn(co2net.METHOD, data, config, key=key))(keys)
    video = np.asarray(batch.features[:, :, 0, 0])
    assert set(video[:, :6].ravel()) == {1, 2, 3, 4}
    assert set(video[:, 6:].ravel()) == {0, 1, 3}


def test_data_sets_without_pairs_are_rejected():
    config = co2net_demo.get_config()
    dataset = Dataset("Tiny", ("Dive", "Jump"), flat_videos([4, 4, 4], [0, 1, 1]), ())
    with pytest.raises(JaxtalError, match="Tiny: no class is carried by two training videos"):
        co2net.validate_dataset(dataset, config)  # the second video of Jump is all zeros
    config.train.pairs = 0
    co2net.validate_dataset(dataset, config)


def test_the_activitynet_config():
    """The values of the published code (docs/methods/co2net.md, co2net-training)."""
    config = co2net_anet12.get_config()
    assert (config.data.num_snippets, config.data.min_snippets, config.train.steps) == (
        60,
        11,
        22000,
    )
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (3e-5, 5e-4)
    assert config.loss.topk_divisor == 5
    wanted = 2 * (config.data.num_snippets // config.loss.topk_divisor // 2) + 1
    assert config.model.pool_window == wanted == 13


def test_the_paper_preset():
    """Four fields differ (docs/methods/co2net.md, co2net-differences); reductions stay means.

    On ActivityNet two more do, which only the published code has.
    """
    fields = {"attention_unit": "paper", "classifier": "paper", "ccm_dropout": "paper"}
    for module in (co2net_thumos, co2net_anet12, co2net_demo):
        code, paper = module.get_config(), module.get_config("paper")
        co2net.validate_config(paper)
        code.model.update(fields)
        code.loss.suppression = "product"
        code.model.pool_window, code.data.min_snippets = 1, 0
        assert code.to_dict() == paper.to_dict()
    with pytest.raises(ValueError, match="preset 'papper'; wanted code or paper"):
        co2net_thumos.get_config("papper")


REJECTED = {
    ("model.fusion", "sum"): r"fusion is 'sum'; it must be one of ccm, add, concat, se, ssma",
    ("model.ccm_main", "none"): r"ccm_main is 'none'; it must be one of global, local",
    ("model.ccm_auxiliary", "main"): r"ccm_auxiliary is 'main'; it must be one of global, local",
    ("model.fusion", "add"): r"'add', which changes the fusion layer, but .*classifier=paper has",
    ("model.fusion", "ssma"): r"'ssma', which changes the fusion layer.*set config\.model\.class",
}


@pytest.mark.parametrize(("field", "value"), REJECTED)
def test_unknown_variants_are_rejected(field, value):
    config = co2net_thumos.get_config("paper")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(JaxtalError, match=REJECTED[field, value]):
        co2net.validate_config(config)


def test_runs_from_before_the_variants(tmp_path):
    """A config.json without the variants' fields resumes with the published network only."""
    config = co2net_demo.get_config()
    old = co2net_demo.get_config()
    for field in ("fusion", "ccm_main", "ccm_auxiliary"):
        del old.model[field]
    files = Workdir(tmp_path)
    (tmp_path / "config.json").write_text(old.to_json())
    completed = config_from(files.read_config())
    co2net.validate_config(completed)
    assert co2net.METHOD.build(completed.model, C) == co2net.METHOD.build(config.model, C)
    files.check_config(config.to_dict())
    config.model.fusion = "se"
    with pytest.raises(JaxtalError, match=r"config\.model\.fusion: ccm there, se here"):
        files.check_config(config.to_dict())


@pytest.mark.parametrize("name", VARIANTS)
def test_no_variant_is_converted_as_the_published_network(name):
    """The names of the layers differ, also where all shapes agree."""
    with pytest.raises(
        JaxtalError, match=r"run: not co2net as published.*classifier=code, fusion=ccm"
    ):
        parameter_names.from_variables("co2net", shapes(VARIANTS[name], 16), "run")
