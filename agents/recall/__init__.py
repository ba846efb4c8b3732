"""Recall: memories found again, in memory; every node is a read replica of memory.latest."""
