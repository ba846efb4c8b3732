"""What processors are made of beside their laws."""
