"""Methods that train between their rounds: data, training, data from what was trained, and again."""
