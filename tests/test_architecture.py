"""The shape of the package: imports point down, and what must not be there is not."""

import ast
import functools
from pathlib import Path

import pytest

import vijax

ROOT = Path(vijax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# from the bottom up; a module imports only from its own layer or a lower one
LAYERS = [
    ["_names", "_pytree", "_text", "_version"],
    ["numerics"],
    ["data"],
    ["exponential_family", "kernel", "constraints"],
    ["families", "guides", "latent_class", "model"],
    ["models", "infer"],
    ["selection", "criticism"],
    ["extras", "provenance", "testing"],
    ["__init__", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MAY_NOT = {
    "infer": {"models", "families"},  # drivers name no model
    "models": {"infer"},  # models know of no driver
    "families": {"latent_class", "model"},
    "criticism": {"models", "families", "selection"},
}
# the same inside of `infer`
ROOMS = [
    ["frames", "method", "result", "status"],
    ["run"],
    ["methods"],
    ["annealed", "grow", "labels", "merge_classes", "moves", "split_merge"],
    ["initialise"],
    ["arguments", "stacked_models"],
    ["amortised", "fit", "fits", "gradient", "many", "out_of_core", "streaming"],
]
ROOM = {name: rank for rank, names in enumerate(ROOMS) for name in names}


def module(path):
    """Parts of the dotted name."""
    parts = ("vijax", *path.relative_to(ROOT).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module(path): path for path in FILES}


def imports(path):
    """(module, name) of everything that a file imports from vijax; name None for a module."""
    here = module(path)
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                inner = (*target, alias.name)
                yield (inner, None) if inner in MODULES else (target, alias.name)


def top(parts):
    return parts[1] if len(parts) > 1 else "__init__"


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_imports_point_down(path):
    here = module(path)
    own = top(here)
    for target, _ in imports(path):
        name = top(target)
        assert RANK[name] <= RANK[own], f"{own} imports {name}"
        assert name not in MAY_NOT.get(own, set()), f"{own} imports {name}"
        if own == name == "infer" and len(here) > 2 and len(target) > 2:
            assert ROOM[target[2]] <= ROOM[here[2]], f"{here[2]} imports {target[2]}"


def test_no_circle_of_imports():
    graph = {name: {target for target, _ in imports(path)} for name, path in MODULES.items()}
    done, path = set(), []

    def visit(name):
        assert name not in path, f"a circle: {path[path.index(name) :]}"
        if name in done:
            return
        path.append(name)
        for target in graph.get(name, ()):
            visit(target)
        path.pop()
        done.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_no_private_name_crosses_modules(path):
    for target, name in imports(path):
        private = name is not None and name.startswith("_") and name != "__version__"
        assert not private, f"{name} of {'.'.join(target)}"


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
    "default_backend": "data.shards: where the arrays are, not where the program is traced",
}


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nothing_forbidden_is_called(path):
    for node in ast.walk(ast.parse(path.read_text())):
        name = getattr(node, "attr", getattr(node, "id", None))
        owner = getattr(node, "value", None)
        if path.name == "__main__.py" and name == "print":
            continue
        if path.name == "shards.py" and name == "default_backend":
            continue
        if isinstance(owner, ast.Attribute) and ast.unparse(owner) == "np.linalg":
            continue  # NumPy, on the host
        assert name not in FORBIDDEN, f"line {node.lineno}: {FORBIDDEN[name]}"
        if isinstance(node, ast.Attribute) and node.attr == "update":
            owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
            assert owner != "config", f"line {node.lineno}: no global configuration"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_loops_and_jit_live_in_the_drivers(path):
    """A loop or a jit in a model hides an algorithm; numerics may iterate over and within rows."""
    hidden = {"infer": set(), "numerics": {"jit"}, "testing": {"while_loop", "fori_loop", "scan"}}
    hidden = hidden.get(top(module(path)), {"jit", "while_loop", "fori_loop", "scan"})
    if path.name == "padding.py":  # what is read off a fit has no driver
        hidden = hidden - {"jit"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in hidden, f"line {node.lineno}"


INFER = [path for path in FILES if top(module(path)) == "infer"]


@pytest.mark.parametrize("path", INFER, ids=ids)
def test_drivers_probe_nothing_by_name(path):
    """What a driver asks of a model or a method is written down in `model.py` and `method.py`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            literal = isinstance(node.args[1], ast.Constant)
            assert not literal, f"line {node.lineno}: {ast.unparse(node)}"


TYPED = {"model", "models", "method", "batch", "q", "last", "prior_q"}


def parameters(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield from ((node, arg) for arg in given)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_models_methods_and_rows_have_types(path):
    for node, arg in parameters(path):
        if arg.arg in TYPED and arg.annotation is not None:
            found = ast.unparse(arg.annotation)
            assert found != "Any", f"line {node.lineno}: {node.name}({arg.arg}: Any)"


def public_definitions(path):
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for member in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


@functools.cache
def class_definitions():
    """Every class of the package: name to the names of its bases and of its described members.

    Estimators have the names of the library that they stand in for; they describe all methods.
    """
    found = {}
    for path in FILES:
        if path.is_relative_to(ROOT / "extras/sklearn") and path.name != "base.py":
            continue
        described = {name for name, node in public_definitions(path) if ast.get_docstring(node)}
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                assert node.name not in found, f"two classes are named {node.name}"
                bases = [ast.unparse(base).partition("[")[0].split(".")[-1] for base in node.bases]
                members = [name.partition(".") for name in described]
                own = {member for owner, _, member in members if owner == node.name and member}
                found[node.name] = (bases, own)
    return found


def inherits_docstring(name):
    """Whether a base class of the package, however far up, describes this method or property."""
    owner, _, member = name.partition(".")
    bases = list(class_definitions().get(owner, ([],))[0]) if member else []
    while bases:
        parents, described = class_definitions().get(bases.pop(), ([], set()))
        if member in described:
            return True
        bases.extend(parents)
    return False


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_public_definition_has_a_docstring(path):
    """An override may leave it to the class that it overrides, as documentation tools do."""
    assert ast.get_docstring(ast.parse(path.read_text())), "the module has no docstring"
    bare = [name for name, node in public_definitions(path) if not ast.get_docstring(node)]
    assert not [name for name in bare if not inherits_docstring(name)]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_first_sentences_are_whole(path):
    """Documentation tools cut at the first empty line."""
    for name, node in public_definitions(path):
        first = (ast.get_docstring(node) or "").split("\n\n")[0].rstrip()
        assert first.endswith((".", "::", ":")) or first == "", f"{name}: {first!r}"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 400
