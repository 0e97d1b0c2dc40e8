"""The pages of the reference, written from `vijax/_names.py`: one a group, one a public name.

Of a class constructors come first, then what users call, and what drivers ask is folded away.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

from docstrings import first_sentence, readable, to_rst

MODULES = {  # public modules that are not classes, and their pages
    "vijax.constraints": "Constraints of parameters",
    "vijax.factor": "Factors of an Energy",
    "vijax.presets": "Priors of other libraries",
    "vijax.datasets": "Data sets",
    "vijax.extras.plot": "Figures",
    "vijax.extras.numpyro": "Models of numpyro",
}
INTRODUCTION = """Every public name, in the order of the layers. Examples are tests, and run.

In signatures `ArrayLike` is a number, nested lists, or an array of any library; `Data` is what
:doc:`Batch.of </docs/data>` reads; `Fitted` is a Result or its q, `Known` a q or a point.
Shapes are in brackets: in `Float[*b n k]`, n rows and k components follow any number of leading
axes b, those of many fits."""
# what users call, of models, families, fits and methods; all else is for drivers
FOR_USERS = set(Path(__file__).with_name("for_users.txt").read_text().split())
FORMULAS = {  # the page of each model below docs/models
    "Mixture": "index",
    "GaussianMixture": "gaussian",
    "StudentTMixture": "student_t",
    "PoissonMixture": "columns",
    "ExponentialMixture": "columns",
    "BernoulliMixture": "columns",
    "GeometricMixture": "columns",
    "CategoricalMixture": "columns",
    "MultinomialMixture": "columns",
    "MixedMixture": "mixed",
    "HMM": "hmm",
    "SequenceMixture": "sequence_mixtures",
    "HMMMixture": "sequence_mixtures",
    "LDA": "topics",
    "MixedMembership": "topics",
    "NormalGammaExact": "univariate",
    "FactorisedGaussian": "univariate",
    "LogDensity": "log_density",
    "Energy": "energy",
}
PROTOCOLS = {  # to be implemented: all of it is for the reader of the page
    "ConditionalModel",
    "Conjugate",
    "DensityModel",
    "EStep",
    "Emission",
    "EmissionMoments",
    "ExponentialFamily",
    "FullPassMethod",
    "Kernel",
    "LatentClassModel",
    "MergeModel",
    "Method",
    "Model",
    "SplitMergeModel",
    "Weights",
}
CONSTRUCTORS = (
    "from_data",
    "with_prior",
    "flat",
    "from_standard",
    "of",
    "sequences",
    "documents",
    "dirichlet_process",
    "pitman_yor",
    "to",
)


def groups(text: str) -> dict[str, list[str]]:
    """Headings and names of the table HOMES, in the order of the file."""
    table = text.partition("HOMES = {")[2].partition("\n}")[0]
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        if heading := re.match(r"\s*# (.*)", line):
            own = found.setdefault(heading[1], [])
        elif name := re.match(r'\s*"(\w+)":', line):
            own.append(name[1])
    return {heading: names for heading, names in found.items() if names}


def _title(text: str, under: str = "=") -> list[str]:
    return [text, under * len(text), ""]


def _slug(heading: str) -> str:
    return re.sub(r"\W+", "_", heading.lower()).strip("_")


def _members(cls: type) -> dict[str, tuple[type, object]]:
    """Public methods and properties with docstrings of their own, and the class that has them."""
    found = {}
    for owner in reversed(cls.__mro__):
        if not owner.__module__.startswith("vijax"):
            continue
        for name, value in vars(owner).items():
            if name.startswith("_"):
                continue
            if callable(value) or isinstance(value, property | classmethod | staticmethod):
                found[name] = owner, value
            else:
                found.pop(name, None)  # a plain attribute
    return found


def _rows(pairs: list[tuple[str, str]]) -> list[str]:
    out = [".. list-table::", "   :widths: 30 70", ""]
    for left, right in pairs:
        out += [f"   * - {left}", f"     - {right}"]
    return [*out, ""]


def _entry(cls: type, name: str, value: object) -> list[str]:
    path = f"vijax.{cls.__name__}.{name}"
    if not isinstance(value, property):
        return [f".. automethod:: {path}", ""]
    kind = readable(value.fget.__annotations__.get("return", ""))  # which autodoc does not shorten
    text = to_rst((inspect.getdoc(getattr(cls, name)) or "").splitlines())
    head = [f".. py:property:: {cls.__name__}.{name}", "   :module: vijax", f"   :type: {kind}"]
    return [*head, "", *(f"   {line}" for line in text), ""]


def class_page(vijax, name: str) -> list[str]:
    """The page of one class."""
    cls = getattr(vijax, name)
    out = [*_title(name), f".. autoclass:: vijax.{name}", ""]
    if name in FORMULAS:
        out += [f"Formulas: :doc:`/docs/models/{FORMULAS[name]}`.", ""]
    public = {
        getattr(vijax, other) for other in dir(vijax) if inspect.isclass(getattr(vijax, other))
    }
    members = _members(cls)
    if issubclass(cls, Exception):
        members = {n: m for n, m in members.items() if m[0] is cls}
    makers = [
        n for n in CONSTRUCTORS if isinstance(inspect.getattr_static(cls, n, None), classmethod)
    ]
    open_all = name in PROTOCOLS or not any(
        base.__name__ in ("Model", "ExponentialFamily", "Method", "Batch", "TransformedNormal")
        for base in cls.__mro__
    )
    wanted = FOR_USERS - {"kl"} if issubclass(cls, vijax.Model) else FOR_USERS
    users = [n for n in members if n not in makers and (open_all or n in wanted)]
    rest = [n for n in members if n not in makers and n not in users]
    own = [n for n in users if members[n][0] is cls or members[n][0] not in public]
    inherited = [n for n in users if n not in own]
    if makers:
        out += _title("Constructors", "-")
        for n in makers:
            out += _entry(cls, n, members[n][1])
    if own or inherited:
        out += _title("To implement and to call" if name in PROTOCOLS else "For users", "-")
        for n in own:
            out += _entry(cls, n, members[n][1])
    if inherited:
        out += ["Inherited:", ""]
        for n in inherited:
            owner = members[n][0].__name__
            doc = first_sentence(inspect.getdoc(getattr(cls, n)))
            role = "attr" if isinstance(members[n][1], property) else "meth"
            out += [f"- :py:{role}:`{n} <vijax.{owner}.{n}>`: {doc}"]
        out += [""]
    if rest:
        out += [".. raw:: html", "", '   <details class="drivers">']
        out += ["   <summary>What drivers ask</summary>", ""]
        pairs = []
        for n in sorted(rest):
            doc = first_sentence(inspect.getdoc(getattr(cls, n, None)))
            pairs.append((f"``{n}``", doc or "\\ "))
        out += [*_rows(pairs), ".. raw:: html", "", "   </details>", ""]
    return out


def object_page(vijax, name: str) -> list[str]:
    """The page of a function or of a value."""
    kind = "autofunction" if inspect.isroutine(getattr(vijax, name)) else "autodata"
    return [*_title(name), f".. {kind}:: vijax.{name}", ""]


def module_page(path: str, title: str) -> list[str]:
    """The page of a public module."""
    parent, _, last = path.rpartition(".")
    module = getattr(import_module(parent), last, None) or import_module(path)
    out = [*_title(title), *to_rst((inspect.getdoc(module) or "").splitlines()), ""]
    home = module.__name__
    for name in sorted(vars(module), key=lambda n: (n[0].isupper(), "plot_" not in n, n)):
        value = getattr(module, name)
        if name.startswith("_") or not getattr(value, "__module__", "").startswith(home):
            continue
        if inspect.isclass(value):
            out += [f".. autoclass:: {path}.{name}", ""]
        elif callable(value):
            out += [f".. autofunction:: {path}.{name}", ""]
    return out


def pages() -> dict[str, list[str]]:
    """Every page of the reference: its name and its lines."""
    import vijax

    found: dict[str, list[str]] = {}
    names_file = Path(vijax.__file__).with_name("_names.py")
    tree = ["index"]
    index = [*_title("Reference"), INTRODUCTION, ""]
    for heading, names in groups(names_file.read_text()).items():
        slug = _slug(heading)
        title = heading[0].upper() + heading[1:]
        tree.append(slug)
        pairs = []
        for name in names:
            value = getattr(vijax, name)
            doc = first_sentence(inspect.getdoc(value))
            pairs.append((f":doc:`{name} <vijax.{name}>`", doc))
            maker = class_page if inspect.isclass(value) else object_page
            found[f"vijax.{name}"] = maker(vijax, name)
        below = [".. toctree::", "   :hidden:", "", *(f"   vijax.{name}" for name in names), ""]
        found[slug] = [*_title(title), *_rows(pairs), *below]
        short = ", ".join(f":doc:`{name} <vijax.{name}>`" for name in names)
        index += [f":doc:`{title} <{slug}>`", f"   {short}", ""]
    for path, title in MODULES.items():
        slug = path.replace("vijax.", "").replace(".", "_")
        tree.append(slug)
        found[slug] = module_page(path, f"{title}: {path.replace('vijax', 'vx', 1)}")
        index += [f":doc:`{title} <{slug}>`", f"   ``{path}``", ""]
    hidden = [".. toctree::", "   :hidden:", "", *(f"   {slug}" for slug in tree[1:]), ""]
    found["index"] = [*index, *hidden]
    return found


def _write(app):
    folder = Path(app.confdir) / "reference"
    folder.mkdir(exist_ok=True)
    new = {folder / f"{name}.rst": "\n".join(lines) for name, lines in pages().items()}
    for old in folder.glob("*.rst"):
        if old not in new:
            old.unlink()
    for path, text in new.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app):
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
