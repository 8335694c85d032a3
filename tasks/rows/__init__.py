"""What several stages do with rows: compare, hash, assign to splits, and reject them."""
