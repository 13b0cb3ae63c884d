"""The commands of ``tscm`` that fill a room of their own; ``tscm_core.cli`` puts them together."""
