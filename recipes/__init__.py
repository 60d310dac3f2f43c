"""Recipes installed as data; `distill recipes` lists them."""
