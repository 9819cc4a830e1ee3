"""A jail for verification code that a model wrote. ``Pool`` runs it; docs/sandbox.md says what is covered."""

from if_factory.sandbox.pool import FunctionResult, Limits, Pool, boolean
from if_factory.sandbox.probe import Isolation, isolation

__all__ = ["FunctionResult", "Isolation", "Limits", "Pool", "boolean", "isolation"]
