"""The README for package indexes, which have no files beside it: relative links become text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = r"\((?!https?://|#)[^)\s]+\)"


def for_index(text: str) -> str:
    """Markdown without relative pictures, and with the words of relative links in their place."""
    text = re.sub(rf"!\[[^\]]*\]{_RELATIVE}\n*", "", text)
    return re.sub(rf"\[([^\]]+)\]{_RELATIVE}", r"\1", text)


class ReadmeHook(MetadataHookInterface):
    """Sets `readme` when a package is built."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the table `project`."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_index(text)}
