"""Build llama.cpp and the probe: source pin, compilers, CMake, audit of what was built."""
