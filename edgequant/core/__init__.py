"""What every stage shares: errors, paths, artefacts, processes, progress."""
