"""The sections of the scenario file as written: pydantic models of every key, by what they speak of."""
