"""A backbone as `prefix | speech` columns: what an adapter promises, its head, columns, batches and prompts."""
