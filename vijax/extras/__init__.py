"""Bridges to files and other libraries, each imported only when it is used."""
