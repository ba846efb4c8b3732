"""Orders to forget memories, brought to memory in its own source."""
