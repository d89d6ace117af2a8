"""Every question and answer, to be looked at in the page."""
