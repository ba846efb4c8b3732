"""The laws of the row processors that steer, written again for the verifier."""
