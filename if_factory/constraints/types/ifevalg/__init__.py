"""The ids of open-instruct's IFEvalG registry (IF-RLVR) beyond IFEval's 25."""
