"""The command line: one file a verb, thin; what is heavy is imported inside the verb."""
