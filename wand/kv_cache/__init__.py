"""The keys and values of a decode: under a window, of constant size; under full attention, growing."""
