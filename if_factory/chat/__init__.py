"""Chat models behind one protocol: client, backends, response log, budget, and reading their replies."""
