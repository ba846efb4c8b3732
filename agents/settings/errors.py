"""What is said of settings that can't be used."""


class SettingsError(Exception):
    """The settings can't be used; the text names every error and what to set instead."""
