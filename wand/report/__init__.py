"""The report of runs and studies: a folder with one page to read, to listen to and to vote on."""
