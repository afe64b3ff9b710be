"""Training objectives, one file each: pure functions with formula and source, under a module that holds coefficients.

An objective maps `Views` to named, unweighted, scalar terms; `weighted_sum` is the one place where weights apply.
"""
