"""Starts, finds, repairs and stops a real Kafka, PostgreSQL and Valkey on this machine."""
