"""How far a quantized model's next-token distributions lie from its 16-bit file's."""
