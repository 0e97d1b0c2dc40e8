"""What a result was made with: versions, and the sources to cite."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import re
import sys
from importlib import resources
from typing import Any

import jax

from ._version import __version__

_PACKAGES = ("jax", "jaxlib", "jaxtyping", "numpy", "scipy")
_EXTRAS = ("optax", "numpyro", "matplotlib", "plotly", "pandas", "polars", "tqdm")

# the sources of each class, keys of references.bib
SOURCES = {
    "Accelerated": ("Nesterov1983", "ODonoghue2015"),
    "Admixture": ("Blei2003", "Minka2000"),
    "Annealed": ("Ueda1998", "Katahira2008"),
    "BernoulliMixture": ("Bishop2006",),
    "CAVI": ("Bishop2006",),
    "Chain": ("Beal2003",),
    "DirichletProcess": ("Blei2006", "Escobar1995"),
    "EM": ("Dempster1977", "MacKay1998"),
    "Energy": ("Winn2005", "Hoffman2013", "Khan2017"),
    "GaussianMixture": ("Bishop2006",),
    "GaussianVI": ("Opper2009", "Khan2023", "Dauphin2014"),
    "HMM": ("Rabiner1989", "Beal2003"),
    "Halving": ("Karnin2013", "Jamieson2016"),
    "IWAE": ("Burda2016",),
    "LBFGS": ("Giordano2024", "Lewis2013"),
    "LDA": ("Blei2003", "Hoffman2010"),
    "Memoized": ("Neal1998", "Hughes2013"),
    "MixedMembership": ("Blei2003", "Erosheva2004"),
    "Mixture": ("Bishop2006",),
    "Moves": ("Hughes2013", "Ueda2000"),
    "NormalWishart": ("Bishop2006",),
    "Renyi": ("Li2016",),
    "RobbinsMonro": ("Robbins1951",),
    "SVI": ("Hoffman2013",),
    "Selection": ("Bishop2006",),
    "StickBreaking": ("Ishwaran2001", "Blei2006"),
    "StochasticVI": ("Polyak1992", "Roeder2017"),
    "Streaming": ("Broderick2013", "Ibrahim2000"),
    "StudentT": ("Peel2000",),
    "StudentTMixture": ("Peel2000", "Svensen2005"),
    "WeakLimit": ("Teh2006", "Fox2011"),
    "WithNoise": ("Banfield1993",),
}


@dataclasses.dataclass(frozen=True)
class Versions:
    """Versions by name, and where JAX computes; its `repr` is a table for a report of a bug."""

    versions: dict[str, str]
    backend: str
    devices: tuple[str, ...]
    x64: bool

    def __repr__(self) -> str:
        rows = {**self.versions, "backend": self.backend, "devices": ", ".join(self.devices)}
        rows["float64"] = "enabled" if self.x64 else "disabled"
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def show_versions() -> Versions:
    """The versions of vijax, Python and all packages that matter, and the devices of JAX.

    Nothing is printed: show the result, or print it. It starts JAX's backend.

    Example:
        print(vx.show_versions())
    """
    found = {"vijax": __version__, "python": sys.version.split()[0], "system": platform.platform()}
    for name in (*_PACKAGES, *_EXTRAS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name in _PACKAGES:
                found[name] = "missing"
    devices = jax.devices()
    kinds = [device.device_kind for device in devices]
    counted = tuple(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return Versions(found, devices[0].platform, counted, bool(jax.config.read("jax_enable_x64")))


def cite(*objects: Any) -> str:
    """BibTeX entries of vijax and of the sources of these models, methods or results.

    What they are made of counts too, such as the weights of a mixture. Each entry occurs once.

    Args:
        objects: What was used: a model, a method, `Moves()`, a Result.

    Example:
        model = vx.GaussianMixture.flat(3, 2)
        print(vx.cite(model, vx.EM()))
    """
    keys: dict[str, None] = {}
    for one in objects:
        for name in _class_names(one):
            keys.update(dict.fromkeys(SOURCES.get(name, ())))
    entries = references()
    return "\n".join([_own_entry(), *(entries[key] for key in keys)])


def references() -> dict[str, str]:
    """Every entry of `references.bib`, by key."""
    text = (
        resources.files(__name__.partition(".")[0])
        .joinpath("references.bib")
        .read_text(encoding="utf-8")
    )
    entries = re.split(r"\n(?=@)", text)
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in entries}


def _own_entry() -> str:
    return "\n".join(
        [
            "@software{vijax,",
            "  author = {{The vijax developers}},",
            "  title = {vijax: closed-form variational inference and {EM} in {JAX}},",
            f"  version = {{{__version__}}},",
            "  year = {2026}",
            "}",
            "",
        ]
    )


def _class_names(one: Any) -> list[str]:
    """Of its class, the bases, and of all that its fields hold."""
    names = [cls.__name__ for cls in type(one).__mro__]
    if dataclasses.is_dataclass(one):
        held = [getattr(one, field.name) for field in dataclasses.fields(one)]
    elif isinstance(one, dict):
        held = list(one.values())
    else:
        held = list(one) if isinstance(one, tuple | list) else []
    return names + [name for part in held for name in _class_names(part)]
