"""Control: changes of settings, checked, given versions and brought where they act, in band."""
