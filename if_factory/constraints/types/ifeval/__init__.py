"""IFEval's 25 types (Zhou et al., 2023), one file per family or two."""
