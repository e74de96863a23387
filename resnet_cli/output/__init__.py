"""From records to the terminal, JSON and CSV; the only place that prints."""
