"""What a response can be checked for: verifiable constraint types, their checkers, and the composer."""
