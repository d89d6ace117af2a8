"""Models, GGUF files and data sets from a Hugging Face hub, in the hub's own cache."""
