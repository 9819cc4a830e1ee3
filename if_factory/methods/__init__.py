"""The methods: one folder each, all of the same shape. ``base.get("complex_to_simple")`` finds one by name."""
