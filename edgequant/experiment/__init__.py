"""The whole line for one experiment file: each stage fed by the artefact of the one before."""
