"""Code as a stranger writes it who has read only the pages of docs/."""
