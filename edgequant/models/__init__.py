"""From a Hugging Face folder to GGUF files: convert, quantize, check."""
