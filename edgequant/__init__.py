"""Which quantization, prompt and token budget gives the best answers within T seconds?"""

__version__ = "0.1.0"
