"""Types beyond IFEval's."""
