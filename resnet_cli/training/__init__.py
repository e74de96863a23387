"""From class folders to a weights file."""
