"""Prefect: which stages run when, what is promoted, and what people see of it."""
