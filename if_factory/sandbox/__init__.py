"""A jail for verification code that a model wrote. ``Pool`` runs it; docs/sandbox.md says what is covered."""

from if_factory.sandbox.pool import FunctionResult, Pool, truth_value
from if_factory.sandbox.probe import Isolation, isolation
from if_factory.sandbox.server import Limits

__all__ = ["FunctionResult", "Isolation", "Limits", "Pool", "isolation", "truth_value"]
