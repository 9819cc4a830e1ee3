"""The methods: one file each, all of the same shape. ``base.get("complex_to_simple")`` finds one by name."""
