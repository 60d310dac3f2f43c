"""Runs on dashboards: what W&B is told of a run, while it trains and from its folder."""
