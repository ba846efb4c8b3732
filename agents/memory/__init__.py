"""What is remembered: events of memories folded into what they are now, and orders to forget."""
