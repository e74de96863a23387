"""A ResNet built from scratch and the command line around it."""

__version__ = "0.1.0"
