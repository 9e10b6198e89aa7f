"""Contracts and orchestration: strategies, catalog, recipes, workspace, runner, ledger. Knows no model and no corpus."""
