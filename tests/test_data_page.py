"""Each line of docs/data.md is what happens."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/data.md"


def test_what_goes_in():
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    # a fence would be taken for output
    text = PAGE.read_text().replace("```pycon", "").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=flags)
    failures = []
    runner.run(test, out=failures.append)
    assert not failures, "".join(failures)
    assert len(test.examples) > 40
