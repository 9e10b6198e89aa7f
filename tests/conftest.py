"""Being here puts this folder on the path, so that tests share its modules."""
