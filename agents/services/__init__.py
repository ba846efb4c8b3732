"""What runs beside the processors of a worker, each in a thread, and what such services share."""
