"""paredown makes neural models cheaper at every stage of their life, and shows the evidence beside every saving."""

__version__ = "0.1.0"
