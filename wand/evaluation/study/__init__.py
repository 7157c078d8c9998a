"""Studies: any number of systems speak the same sentences, and every take is a row. ``wand evaluate`` runs them."""
