"""Measures, declared one module a theme (`plugins.Measure`). These modules are light: numpy and nothing heavier."""
