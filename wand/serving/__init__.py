"""`wand serve`: an HTTP server of speech, with OpenAI's interface."""
