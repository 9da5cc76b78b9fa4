"""The naming backends that are built in: one light module each, which registers a `plugins.Backend`."""
