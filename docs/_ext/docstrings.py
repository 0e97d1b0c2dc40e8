"""Docstrings of vijax for Sphinx: they are written like Markdown, and shapes are jaxtyping's."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx import addnodes

_SHAPE = re.compile(
    r"\b(Float|Int|UInt|Integer|Bool|Key|Num|Inexact|Shaped|Real)"
    r"\[[\w.]*(?:Array|ndarray|_Rows)(?: \| [\w.]+)*, ['\"]([^'\"]*)['\"]\]"
)
_PATH = re.compile(r"\bvijax(?:\.\w+)*\.(\w+)")
_ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
# classes that users build by other calls than the constructor, or never
MAKERS = ("from_data", "from_standard", "with_prior", "of", "_from")
MADE = set(
    """
    AmortisedFit Comparison Completion CrossValidation Criticism EStep Fits Forecast HMMMixture
    BernoulliMixture CategoricalMixture ExponentialMixture GeometricMixture MultinomialMixture
    PoissonMixture MixtureDensity Report Reporter Response Result Selection State Status
    TransformedNormal Verdict MeanPrecision NormalGammaExact FactorisedGaussian Kernel
    """.split()  # noqa: SIM905
)
_SECTIONS = ("Args:", "Example:", "Raises:", "Returns:")


# what is in shapes but not in names, in letters that stand for it until a signature is parsed
_LETTERS = {"...": "ⵟ", "*": "ⵣ", " ": "ⵏ", "+": "ⵜ", "-": "ⵐ", "#": "ⵞ", "": "ⵠ"}


def _as_name(shape: str) -> str:
    for text, letter in list(_LETTERS.items())[:-1]:
        shape = shape.replace(text, letter)
    return _LETTERS[""] + shape if shape else "scalar"


def _as_shape(text: str) -> str:
    for shape, letter in _LETTERS.items():
        text = text.replace(letter, shape)
    return text


def readable(text: str | None) -> str | None:
    """`Float[Array, '*b k']` to `Float[*b k]`, and classes without their module."""
    if not text:
        return text
    text = _SHAPE.sub(lambda m: f"{m[1]}[{_as_name(m[2])}]", text.replace("~", ""))
    text = re.sub(r"\b(jaxtyping|collections\.abc|typing)\.", "", text)
    text = _PATH.sub(r"\1", _ALIAS.sub(r"\1", text))
    return re.sub(r"^_[A-Z]\w*$", "Self", text)


def to_rst(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText: code after a blank line, lists, |x| and *b as they are."""
    out: list[str] = []
    code: int | None = None  # indentation of the code we are in
    section, example, listing = 0, False, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        blank_before = not out or not out[-1].strip()
        if code is not None:
            if not line.strip() or indent >= code:
                out.append(line)
                continue
            code, example = None, False
            if out[-1].strip():
                out.append("")
        if line.strip() in _SECTIONS and not indent:
            example, section = line.strip() == "Example:", 4
            if example:
                out += ["", ".. rubric:: Example", "", ".. code-block:: python", ""]
                code, section = 4, 0
                continue
            out.append(line)
            continue
        if line.strip() and not indent:
            section = 0
        if line.strip() and not section and indent >= 4 and blank_before:
            told = "\n".join(out).rstrip().endswith("::")
            out += [line] if told else [" " * (indent - 4) + "::", "", line]
            code = indent
            continue
        if line.lstrip().startswith("- "):
            if blank_before or listing:
                listing = True
            elif out[-1].rstrip().endswith((":", ".")):
                out.append("")
                listing = True
            else:  # a minus at the start of a line
                line = line.replace("- ", "\\- ", 1)
        elif not line.strip():
            listing = False
        out.append(_escaped(line))
    return out


def _escaped(line: str) -> str:
    parts = line.split("`")  # what is between backticks is code and stays
    start = re.match(r"\s*(?:[-*] )?", parts[0])
    head = start[0] if start else ""
    parts[0] = parts[0][len(head) :]
    parts[::2] = [re.sub(r"[*|]|\\(?!-)|_(?=\W|$)", r"\\\g<0>", part) for part in parts[::2]]
    return head + "`".join(parts)


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, whole, as reStructuredText in one line."""
    if not text:
        return ""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z`(])", paragraph)[0]
    return _escaped(sentence)


def _signature(app, what, name, obj, options, signature, returns):
    if what == "class" and (name.rpartition(".")[2] in MADE or any(map(obj.__dict__.get, MAKERS))):
        return "", None  # nobody calls the constructor
    return readable(signature), readable(returns)


def _docstring(app, what, name, obj, options, lines):
    lines[:] = to_rst(lines)


def _signatures(app, doctree):
    for signature in doctree.findall(addnodes.desc_signature):
        for node in list(signature.findall(nodes.Text)):
            if _LETTERS[""] in node:
                node.parent.replace(node, nodes.Text(_as_shape(node)))


def setup(app):
    app.connect("doctree-read", _signatures)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
