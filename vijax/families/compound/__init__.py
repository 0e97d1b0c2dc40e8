"""Families around others: noise, Student-t rows, tables of columns."""
