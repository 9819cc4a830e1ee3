"""What users bring: seed prompts, documents, rows of any dataset; errors name file, row and field."""
