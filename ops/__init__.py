"""What runs around the product: the local stack, benchmarks, proofs. Commands and tests use it."""
