"""Dictionaries as other libraries' files, one format a file."""
