"""Makes simgemma, the small vision-language model that names neurons of the simulated cohort: `python -m tools.simgemma`.

`pictures` draws, `tower` trains the picture side, `words` says what can be said, `build` assembles a Gemma 3 with its
tokenizer, `language` trains the text side, `record` measures all of it on unseen patients. Everything is by steps and
seeds; nothing is by the clock.
"""
