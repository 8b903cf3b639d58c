"""Which requests leave an instance first, and why. Pure: the llumlet's own share of the policy."""
