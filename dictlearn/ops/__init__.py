"""Numerics as functions of arrays, one idea a file, each with a naive twin in its test."""
