"""What learns and acts: encoders, predictors, objectives, world models, probes, behaviours."""
