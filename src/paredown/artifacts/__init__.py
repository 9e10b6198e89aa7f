"""What flows between steps. Importing a module here imports no torch; readers import what they need when called."""
