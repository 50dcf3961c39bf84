"""Numerics as functions of arrays, one idea a file, each with a plain reference implementation in its test."""
