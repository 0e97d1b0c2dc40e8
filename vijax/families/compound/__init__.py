"""Families built on others: noise components, Student-t rows, tables of columns."""
