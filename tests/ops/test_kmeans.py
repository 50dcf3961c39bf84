"""k-means finds planted clusters, leaves no centre empty, and is the same over a sharded batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.kmeans import kmeans, nearest
from tests.helpers import mesh_of


def clusters(n=8, per=32, d=5):
    keys = jax.random.split(jax.random.key(0))
    truth = 4 * jax.random.normal(keys[0], (n, d))
    noise = 0.05 * jax.random.normal(keys[1], (per, n, d))
    return truth, (truth + noise).reshape(-1, d)


@pytest.mark.parametrize("plusplus", [False, True])
def test_planted_clusters_are_found_and_every_centre_is_the_mean_of_its_rows(plusplus):
    truth, x = clusters()
    centre = kmeans(jax.random.key(1), x, 8, 20, plusplus)
    index, far = nearest(x, centre)
    for c in range(8):
        np.testing.assert_allclose(centre[c], x[index == c].mean(0), atol=1e-5)
    wanted, _ = nearest(truth, centre)
    found = len(set(np.asarray(wanted)))
    assert found == 8 if plusplus else found >= 4
    assert float(far.mean()) < 0.02 or not plusplus


def test_no_centre_stays_empty():
    _, x = clusters()
    x = jnp.concatenate([x, jnp.repeat(x[:1], 500, axis=0)])
    centre = kmeans(jax.random.key(3), x, 24, 20)
    assert len(np.unique(np.asarray(nearest(x, centre)[0]))) == 24


def test_nearest_is_the_naive_search_over_many_blocks_with_ties_to_the_lowest():
    x = jax.random.normal(jax.random.key(0), (20, 3))
    centre = jax.random.normal(jax.random.key(1), (2100, 3))
    centre = centre.at[2000:].set(centre[:100])
    index, far = nearest(x, centre)
    square = np.sum((np.asarray(x)[:, None] - np.asarray(centre)) ** 2, -1)
    np.testing.assert_array_equal(index, square.argmin(1))
    np.testing.assert_allclose(far, square.min(1), rtol=1e-5)


def test_fewer_rows_than_centres_gives_the_rows_themselves():
    _, x = clusters(n=3, per=1)
    centre = kmeans(jax.random.key(0), x, 7)
    np.testing.assert_allclose(nearest(x, centre)[1], 0, atol=1e-10)
    with pytest.raises(ValueError, match=r"n=0.*1"):
        kmeans(jax.random.key(0), x, 0)


def test_a_sharded_batch_gives_the_same_centres():
    _, x = clusters()
    wanted = kmeans(jax.random.key(1), x, 8, 5)
    mesh = mesh_of(1, 4, 2)
    split = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data", None)))
    with jax.set_mesh(mesh):
        found = jax.jit(kmeans, static_argnums=(2, 3))(jax.random.key(1), split, 8, 5)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
