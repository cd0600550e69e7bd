"""Whitelist walks over the containers: what is kept is named here, everything else is dropped."""
