"""The finished run on a toy language model that the report's tests have."""

from tests.report.conftest import model, spoken

__all__ = ["model", "spoken"]
