"""The methods, one folder each, all of the same shape. ``base.get_method("decif")`` finds one by name."""
