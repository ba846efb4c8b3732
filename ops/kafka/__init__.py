"""The Kafka that the local stack runs: its jars (pom.xml) and how it logs."""
