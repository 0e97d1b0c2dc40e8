"""The containers: what JAX sees of them, and that it never takes one class for another."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

from .table import FAMILIES


@vx.pytree
class Left:
    a: jax.Array
    b: jax.Array
    option: int = vx.static(default=1)


@vx.pytree
class Right:
    a: jax.Array
    b: jax.Array
    option: int = vx.static(default=1)


def test_classes_with_equal_fields_are_different_structures(rng):
    """Or a jitted function could run the program traced for the other class."""
    some = [Left(1, 2), Right(1, 2), Left(1, 2, 3), vx.CAVI(), vx.CAVI(chunk=3), vx.EM()]
    some += [family.make(rng) for family in FAMILIES]
    for a, b in itertools.combinations(map(jax.tree.structure, some), 2):
        assert a != b
    for one in some:
        assert jax.tree.structure(one) == jax.tree.structure(jax.tree.map(lambda leaf: 0, one))


def test_round_trip_and_names():
    one = Left(jnp.ones(2), jnp.zeros(3), option=7)
    leaves, structure = jax.tree.flatten(one)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is Left
    assert again.option == 7
    assert again.a is one.a
    assert again.b is one.b
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(one)]
    assert paths == [".a", ".b"]


def test_a_new_static_value_is_a_new_program_and_a_new_leaf_is_not():
    traces = []

    @jax.jit
    def total(one):
        traces.append(one.option)
        return jnp.sum(one.a) * one.option

    one = Left(np.ones(2), np.ones(2))
    assert total(one) == 2
    assert total(dataclasses.replace(one, a=np.full(2, 5.0))) == 10
    assert total(dataclasses.replace(one, option=3)) == 6
    assert total(Right(one.a, one.b)) == 2
    assert traces == [1, 3, 1]


def test_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Left(1, 2).a = 3
