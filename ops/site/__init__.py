"""The pages as a site (`make docs`): pages.py brings them, reference.py makes some."""
