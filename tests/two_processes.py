"""One of two processes that hold the rows together: run by test_devices, with a port and a number.

Each has half of the rows, and as many devices as JAX_NUM_CPU_DEVICES says.
"""

import sys

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import vijax as vx

from .sharded_rows import CHUNK, KEY, full, rows, weights

SPLIT = 60  # rows of process 0 where halves are not equal


def fits(mesh, own):
    """A fit of equal halves, its bound for unequal ones with weights, and whether labels agree."""
    x, weight = rows(), weights()
    half = len(x) // 2
    mine = x[own * half : (own + 1) * half]
    spread = jax.make_array_from_process_local_data(NamedSharding(mesh, P("rows")), mine)
    model = full(spread)
    method = vx.CAVI(chunk=CHUNK)
    even = vx.fit(model, spread, key=jax.random.key(KEY), method=method)
    part = slice(None, SPLIT) if own == 0 else slice(SPLIT, None)
    batch = vx.shard_rows(x[part], mesh, weight=weight[part])
    bound = vx.elbo(model, even, batch, method=method)
    # labels of all rows are spread like these; those of its own a process finds by itself
    labels = model.predict(even.q, spread).addressable_shards
    local = jax.device_get(model).predict(jax.device_get(even.q), mine)
    agree = np.concatenate([np.asarray(part.data) for part in labels]) == np.asarray(local)
    return even, bound, agree.mean()


def main(port, own, out):
    """Write the leaves of what `fits` returns."""
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, own, initialization_timeout=60)
    assert jax.process_count() == 2
    mesh = Mesh(np.array(jax.devices()), ("rows",), axis_types=(AxisType.Explicit,))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(fits(mesh, own))]
    np.savez(out, *leaves)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
