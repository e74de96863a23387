"""The command line: one module per command, which parses, calls one task and prints."""
