"""Studies: stages of variants of one recipe, trained with several seeds and compared by statistics."""
