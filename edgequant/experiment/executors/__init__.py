"""What walks the graph of an experiment."""
