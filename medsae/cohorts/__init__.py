"""Where images and labels come from: published tables, folders of pictures, their checks and the split by patient.

`published.read` (by the declarations of `offered`) and `table.read_table` read labels and find the pictures,
`checking.check_pictures` decodes every picture once, `splits.assign_splits` divides the patients. This file imports
nothing, so that the processes that decode start fast.
"""
