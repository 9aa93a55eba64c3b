"""D2-Net's discriminative loss: random pairs, weights and running background."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtal.nn import discriminative_loss
from jaxtal.nn.discriminative_loss import CosineWeights, Embeddings, Pairing

KEYS = jax.random.split(jax.random.key(0), 4000)
FOREGROUND = jnp.array([True, False, True, True, False, True])
BACKGROUND = jnp.array([False, True, True, False, False, True])


def pairings(pairs: str, foreground=FOREGROUND, background=BACKGROUND) -> Pairing:
    """Draw thousands of pairings at once."""
    return jax.vmap(
        lambda key: discriminative_loss.draw_pairing(key, foreground, background, pairs)
    )(KEYS)


@pytest.mark.parametrize("pairs", discriminative_loss.PAIRS)
def test_partners_are_uniform_permutations_of_the_members(pairs):
    draws = pairings(pairs)
    for partner, members in ((draws.foreground, FOREGROUND), (draws.background, BACKGROUND)):
        rows = np.flatnonzero(members)
        mine = np.asarray(partner)[:, rows]
        np.testing.assert_array_equal(np.sort(mine, axis=1), np.tile(rows, (len(KEYS), 1)))
        others = len(rows) - (pairs == "different")
        for column, row in enumerate(rows):
            for other in rows:
                share = np.mean(mine[:, column] == other)
                wanted = 0 if pairs == "different" and other == row else 1 / others
                assert share == pytest.approx(wanted, abs=4 * 0.5 / np.sqrt(len(KEYS)))


def test_crossed_pairs_are_uniform_and_use_every_video_once():
    draws = pairings("any")
    first, second = (np.asarray(x)[:, :3] for x in draws[2:])  # 3 pairs of 4 and 3
    for rows, members, chosen in ((first, FOREGROUND, 3 / 4), (second, BACKGROUND, 1)):
        assert all(len(set(row)) == 3 for row in rows.tolist())
        counts = np.bincount(rows.ravel(), minlength=6) / len(KEYS)
        np.testing.assert_allclose(counts, np.where(members, chosen, 0), atol=0.04)


def test_every_foreground_is_crossed_with_the_background_of_another_video():
    """Uniformly, and as a derangement if every video has both."""
    draws = pairings("different")
    assert (np.asarray(draws.crossed_foreground) == np.arange(6)).all()
    chosen = np.asarray(draws.crossed_background)
    for row in np.flatnonzero(FOREGROUND):
        others = np.flatnonzero(BACKGROUND & (np.arange(6) != row))
        counts = np.bincount(chosen[:, row], minlength=6) / len(KEYS)
        wanted = np.isin(np.arange(6), others) / len(others)
        np.testing.assert_allclose(counts, wanted, atol=4 * 0.5 / np.sqrt(len(KEYS)))
    all_six = np.asarray(pairings("different", FOREGROUND | True, BACKGROUND | True)[3])
    np.testing.assert_array_equal(np.sort(all_six, axis=1), np.tile(np.arange(6), (len(KEYS), 1)))
    assert (all_six != np.arange(6)).all()


@pytest.mark.parametrize("pairs", discriminative_loss.PAIRS)
@pytest.mark.parametrize("count", [0, 1])
def test_pairs_without_members_and_with_one_member(pairs, count):
    members = jnp.arange(6) < count
    draws = pairings(pairs, members, members)
    assert (draws.foreground[:, :count] == 0).all()
    x = Embeddings(jnp.ones((6, 3)), members, jnp.ones(6))
    one = jax.tree.map(lambda leaf: leaf[0], draws)
    weights = discriminative_loss.cosine_weights(x, x, jnp.ones(6, bool), one, "video", pairs)
    assert not np.any(weights.foreground.round(6)[1:])
    together = count and pairs == "any"  # the video's own foreground and background
    np.testing.assert_allclose(weights.separation, np.arange(6) < together, atol=1e-5)


def cosine(x, y) -> float:
    return x @ y / np.sqrt((x @ x + 1e-12) * (y @ y + 1e-12))


def loop_weights(lists, rows, valid, permutations, row_rule):
    """Compute the weights from lists of embeddings, their rows, and permutations pi_1 to pi_4."""
    (fg, bg), (fg_rows, bg_rows) = lists, rows
    weights = np.zeros((3, len(valid)))
    for i, row in enumerate(fg_rows):
        weights[0, row] = 1 - cosine(fg[i], fg[permutations[0][i]])
    for i, row in enumerate(bg_rows):
        weights[1, row] = 1 - cosine(bg[i], bg[permutations[1][i]])
    valid_rows = np.flatnonzero(valid)
    for i in range(min(len(fg), len(bg))):
        mine, other = permutations[2][i], permutations[3][i]
        row = valid_rows[mine] if row_rule == "list_index" else fg_rows[mine]
        weights[2, row] = max(0.0, cosine(fg[mine], bg[other]))
    return weights


@pytest.mark.parametrize("row_rule", discriminative_loss.ROWS)
@pytest.mark.parametrize("seed", range(12))
def test_weights_equal_the_loops(row_rule, seed):
    rng = np.random.default_rng(seed)
    count = 7
    valid = rng.random(count) < 0.8
    has = [valid & (rng.random(count) < chance) for chance in (0.7, 0.6)]
    x = rng.normal(size=(2, count, 5))
    drawn = discriminative_loss.draw_pairing(jax.random.key(seed), *map(jnp.asarray, has))
    rows = [np.flatnonzero(h) for h in has]
    places = [{row: i for i, row in enumerate(part)} for part in rows]
    permutations = [
        [place[int(row)] for row in np.asarray(order)[: len(part)]]
        for order, part, place in zip(drawn[2:], rows, places, strict=True)
    ]
    partners = [
        [place[int(np.asarray(partner)[row])] for row in part]
        for partner, part, place in zip(drawn[:2], rows, places, strict=True)
    ]
    embeddings = [x[i][rows[i]] for i in (0, 1)]
    wanted = loop_weights(embeddings, rows, valid, partners + permutations, row_rule)
    ours = discriminative_loss.cosine_weights(
        *(
            Embeddings(jnp.asarray(x[i], jnp.float32), jnp.asarray(has[i]), jnp.ones(count))
            for i in (0, 1)
        ),
        jnp.asarray(valid), drawn, row_rule,
    )  # fmt: skip
    np.testing.assert_allclose(np.stack(ours), wanted, atol=1e-5)


def test_different_pairs_never_compare_a_video_with_itself():
    ones = Embeddings(jnp.ones((3, 2)), jnp.ones(3, bool), jnp.ones(3))
    orders = jnp.array([0, 1, 2]), jnp.array([0, 2, 1])
    pairing = Pairing(orders[0], orders[0], *orders)
    valid = jnp.ones(3, bool)
    any_, different = (
        discriminative_loss.cosine_weights(ones, ones, valid, pairing, "video", pairs).separation
        for pairs in discriminative_loss.PAIRS
    )
    np.testing.assert_allclose(any_, [1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(different, [0, 1, 1], atol=1e-6)


def test_attended_embeddings():
    """Attentions above the threshold are the weights; without any there is no embedding."""
    x = jnp.arange(8.0).reshape(2, 4, 1).at[1, 3].set(jnp.nan)
    attention = jnp.array([[0.5, 0.4, 1.0, 0.9], [0.1, 0.2, 0.3, 0.9]])
    mask = jnp.array([[True, True, True, False], [True, True, True, False]])
    value, exists, weight = discriminative_loss.attended_embeddings(x, attention, 0.5, mask)
    np.testing.assert_allclose(weight, [1.5, 0])
    assert exists.tolist() == [True, False]
    np.testing.assert_allclose(value[:, 0], [(0.5 * 0 + 1.0 * 2) / 1.5, 0])


@pytest.mark.parametrize("focusing", [0, 1, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_equals_the_formula(focusing, weighted):
    rng = np.random.default_rng(0)
    p, labels = rng.uniform(0.01, 0.99, (4, 3)), (rng.random((4, 3)) < 0.5).astype(float)
    fg, bg, both = weights = rng.random((3, 4)) if weighted else np.zeros((3, 4))
    ours = discriminative_loss.discriminative_loss(
        jnp.asarray(p, jnp.float32),
        jnp.asarray(labels, jnp.float32),
        CosineWeights(*jnp.asarray(weights, jnp.float32)) if weighted else None,
        focusing,
        0.01,
        3,
    )
    for b in range(4):
        for c in range(3):
            if labels[b, c]:
                wanted = -3 * (1 - p[b, c] + both[b] + 0.01 * fg[b]) ** focusing * np.log(p[b, c])
            else:
                wanted = -((p[b, c] + both[b] + 0.01 * bg[b]) ** focusing) * np.log(1 - p[b, c])
            np.testing.assert_allclose(ours[b, c], wanted, rtol=1e-4)


def test_bottom_up_attention():
    background = jnp.array([1.0, 0.0])
    x = jnp.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]])
    ours = discriminative_loss.bottom_up_attention(x, background)
    np.testing.assert_allclose(ours, [0, 0.5, 1, 0.5])
    np.testing.assert_allclose(
        discriminative_loss.bottom_up_attention(x, 0 * background), [0.5] * 4
    )
    assert not np.any(
        jax.grad(lambda x: discriminative_loss.bottom_up_attention(x, background).sum())(x)
    )


def test_running_background():
    before, x = jnp.ones(2), jnp.array([[3.0, 5.0], [jnp.nan, 0.0], [5.0, 1.0]])
    some, none = jnp.array([True, False, True]), jnp.zeros(3, bool)
    np.testing.assert_allclose(
        discriminative_loss.update_background(before, x, some), [0.9 + 0.4, 0.9 + 0.3], rtol=1e-6
    )
    np.testing.assert_array_equal(discriminative_loss.update_background(before, x, none), before)


def test_peak_embedding_ignores_masked_snippets():
    x = jnp.arange(6.0).reshape(1, 3, 2)
    attention, mask = jnp.array([[0.1, 0.3, 0.9]]), jnp.array([[True, True, False]])
    np.testing.assert_array_equal(discriminative_loss.peak_embedding(x, attention, mask), [[2, 3]])
