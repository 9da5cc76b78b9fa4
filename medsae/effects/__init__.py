"""What a neuron does to a label's read-out: pure arrays.

A read-out is linear: score = w . x + b of an embedding x. An SAE rebuilds x as decode(z) = z W_dec / scale + constant
and leaves an error. So a score is a sum that adds up:

    score = (w . decode(0) + b) + sum over neurons z_j (w . W_dec_j / scale) + w . error

and what happens when a neuron is set to another value is algebra on its decoder row, the error held as it is.
"""
