"""Long texts as one passage, against sentences that are spoken one by one."""
