"""A package of strategies as a third party would write one; joins through its entry point."""
