"""The bill of materials of a build."""
