"""The built-in constraint types: ``ifeval`` has IFEval's 25 under their own ids, ``extra`` the further ones."""
