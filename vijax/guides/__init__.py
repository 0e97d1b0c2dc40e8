"""Guides: the q of black-box methods, from which draws can be differentiated."""
