"""A small language-conditioned tabletop world: two cameras, seven degrees of freedom, no GPU."""
