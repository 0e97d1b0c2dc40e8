"""The shape of the package: imports point down, and what must not be there is not."""

import ast
from pathlib import Path

import pytest

import vijax

ROOT = Path(vijax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# from the bottom up; a module imports only from its own layer or a lower one
LAYERS = [
    ["_pytree", "_text"],
    ["numerics", "_host", "_shards", "datasets"],
    ["batch", "natural", "storage"],
    ["_sources", "chunks"],
    ["families", "model"],
    ["models"],
    ["infer"],
    ["extras", "selection"],
    ["__init__", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MAY_NOT = {
    "infer": {"models", "families", "extras"},  # drivers name no model
    "models": {"infer", "extras"},  # models know of no driver
    "families": {"model", "models", "infer"},
}


def top(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imported(path):
    """Top-level parts of vijax that a file imports."""
    package = ("vijax", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = [*base, *(node.module or "").split(".")] if node.module else list(base)
            if len(target) > 1:
                yield target[1]
            else:
                yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = top(path)
    for name in imported(path):
        if name in RANK:  # names that the package exports are looked at where they are defined
            assert RANK[name] <= RANK[own], f"{own} imports {name}"
            assert name not in MAY_NOT.get(own, set()), f"{own} imports {name}"


FORBIDDEN = {
    "inv": "Cholesky factors, never an inverse",
    "cholesky": "numerics.cholesky: LAPACK's batched kernel can deadlock",
    "solve_triangular": "numerics.cholesky: LAPACK's batched kernel can deadlock",
    "slogdet": "the log-determinant of a Cholesky factor",
    "pickle": "no code from data",
    "eval": "no code from data",
    "exec": "no code from data",
    "print": "a library does not print",
    "NotImplementedError": "nothing is left half done",
    "PRNGKey": "typed keys only",
    "update_config": "no global configuration",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_forbidden_is_called(path):
    for node in ast.walk(ast.parse(path.read_text())):
        name = getattr(node, "attr", getattr(node, "id", None))
        owner = getattr(node, "value", None)
        if path.name == "__main__.py" and name == "print":
            continue
        if isinstance(owner, ast.Attribute) and ast.unparse(owner) == "np.linalg":
            continue  # NumPy, on the host
        assert name not in FORBIDDEN, f"line {node.lineno}: {FORBIDDEN[name]}"
        if isinstance(node, ast.Attribute) and node.attr == "update":
            owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
            assert owner != "config", f"line {node.lineno}: no global configuration"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_loops_and_jit_live_in_the_drivers(path):
    """A loop or a jit in a model hides an algorithm; numerics may count over blocks of a matrix."""
    hidden = {"infer": set(), "numerics": {"jit", "while_loop"}}
    hidden = hidden.get(top(path), {"jit", "while_loop", "fori_loop", "scan"})
    if path.name == "prediction.py":  # what is read off a fit has no driver
        hidden = hidden - {"jit"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in hidden, f"line {node.lineno}"


def public_definitions(path):
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for member in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_public_definition_has_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "the module has no docstring"
    bare = [name for name, node in public_definitions(path) if not ast.get_docstring(node)]
    assert not bare


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 400
