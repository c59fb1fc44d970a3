"""Stage *detect*: online, causal scores of surprising readings, as array operations over all entities at once."""
