"""The version, where the build and a saved file find it."""

__version__ = "0.2.0"
