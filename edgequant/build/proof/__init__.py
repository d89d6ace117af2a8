"""Is what was built what the board needs: read from its code, and tried."""
