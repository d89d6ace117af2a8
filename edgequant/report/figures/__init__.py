"""The report's figures: each as SVG for wide and for narrow places, with its data as CSV."""
