"""Whether an answer attempts its request at all: rules, relevance, a judge (docs/usefulness.md)."""
