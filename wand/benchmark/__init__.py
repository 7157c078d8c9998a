"""What a decoding step costs: time, memory and FLOPs."""
