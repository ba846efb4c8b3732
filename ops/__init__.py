"""What runs around the product: the local stack, benchmarks, proofs. Only commands and tests import it."""
