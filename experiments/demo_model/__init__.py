"""The demo model: a small Llama that solves grade-school word problems."""
