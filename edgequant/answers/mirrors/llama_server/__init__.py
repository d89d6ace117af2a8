"""The first mirror: a llama-server of ours that serves the GGUF that the board runs."""
