"""SmolLM2-135M-Instruct: rebuilt from a GGUF, and fine-tuned on GSM8K."""
