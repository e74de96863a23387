"""From pixels to probabilities: one module per engine, all derived from `network.graph`."""
