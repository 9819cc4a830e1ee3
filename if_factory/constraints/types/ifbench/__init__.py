"""IFBench's 58 ids beyond IFEval's 25."""
