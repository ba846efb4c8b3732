"""The topics of processors that `soma new` wrote: a module for each, with a `PLUGIN`."""
