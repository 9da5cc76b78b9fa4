"""The sources of cohorts that come with the program: one light module a data set (`medsae.cohorts.declared`)."""
