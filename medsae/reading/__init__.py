"""A reading: the detection test of names, done by people. Pure: what to show, to whom, and what the answers say."""
