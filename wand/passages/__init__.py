"""Texts of any length, spoken in one continuous decode: the text in the prefix moves with the speech."""
