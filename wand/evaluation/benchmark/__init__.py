"""What a step costs: measured, counted, and beside the paper's figures. Needs torch and transformers alone."""
