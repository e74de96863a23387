"""From a name to square uint8 pixels."""
