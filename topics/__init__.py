"""What goes over Kafka: the catalogue of topics, their schemas, codecs and partitioning."""
