"""What every stage costs on the machine at hand: ``tscm bench``."""
