"""Build llama.cpp and the probe: source pin, ways, proof of what was built, bill of materials."""
