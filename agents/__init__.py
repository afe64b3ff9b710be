"""What learns and acts: world models and their parts, probes, heads, costs, planners, behaviours, policies."""
