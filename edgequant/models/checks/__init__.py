"""Whether what comes in, and what a conversion makes of it, is the model it says it is."""
